"""A LeTS fine-tuning step beside a full one: ``python -m bench.bench_train_step``.

Writes ``bench/results/<machine>/train_step.json``. Under pytest (`python -m pytest
bench/bench_train_step.py`) the rows of a small shape go into pytest-benchmark's extra_info.
"""

import argparse
import sys
from pathlib import Path

import torch
from lets.bench.report import facts
from lets.bench.train_step import VARIANTS, StepProblem, compare_steps
from lets.files import write_json

ROOT = Path(__file__).resolve().parents[1]


def bench_train_step(benchmark):
    problem = StepProblem("minilm-l6", "g-3", batch=2, seq_len=16, threads=1)
    rows = compare_steps(problem, rounds=1 if benchmark.disabled else 5)
    benchmark.extra_info["rows"] = rows
    benchmark.pedantic(lambda: None)  # the steps ran in processes of their own


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoder", default="bert-base")
    parser.add_argument("--policy", default="fig2b")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--out", type=Path, help="another file than bench/results/<machine>/…")
    chosen = vars(parser.parse_args(arguments))
    rounds, variants, out = (chosen.pop(name) for name in ("rounds", "variants", "out"))
    torch.set_num_threads(chosen["threads"])
    known = facts()
    rows = compare_steps(StepProblem(**chosen), rounds, variants)
    target = out or ROOT / "bench" / "results" / known["machine"] / "train_step.json"
    write_json(target, {**known, "rows": rows})
    for row in rows:
        print(
            f"{row['variant']}: {row['step_ms']:.0f} ms, {row['peak_mb']:.0f} MB; full fine-tuning "
            f"takes {row['speedup']:.2f} times as long, memory {row['memory_ratio']:.2f} of it"
        )
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
