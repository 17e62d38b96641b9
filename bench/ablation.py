"""The engine with and without each of its parts: ``python -m bench.ablation [--threads N]``.

Writes ``bench/results/<machine>/ablation.json``.
"""

import argparse
import sys
from pathlib import Path

import torch
from lets.bench.ablation import run_ablation
from lets.bench.report import facts
from lets.bench.settings import BenchSettings
from lets.files import write_json

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoder", default="bert-base")
    parser.add_argument("--policy", default="fig2b")
    parser.add_argument("--tasks", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--out", type=Path, help="another file than bench/results/<machine>/…")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    known = facts()
    settings = BenchSettings(
        chosen.encoder, (chosen.policy,), (chosen.tasks,),
        threads=chosen.threads, seconds=chosen.seconds,
    )  # fmt: skip
    rows = run_ablation(settings, lambda line: print(line, flush=True))
    target = chosen.out or ROOT / "bench" / "results" / known["machine"] / "ablation.json"
    write_json(
        target,
        {**known, "settings": settings.to_dict(), "rows": [row.to_dict() for row in rows]},
    )
    print(target)
    return int(any(row.slowdown is None for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
