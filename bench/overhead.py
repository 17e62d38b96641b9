"""What a call of the engine costs beside its layers: ``python -m bench.overhead [--threads N]``.

Writes ``bench/results/<machine>/overhead.json``.
"""

import argparse
import sys
from pathlib import Path

import torch
from lets.bench.ours import Ours
from lets.bench.overhead import measure_overhead
from lets.bench.report import facts
from lets.bench.settings import BenchSettings
from lets.files import write_json

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoder", default="bert-base")
    parser.add_argument("--policy", default="fig2b")
    parser.add_argument("--tasks", type=int, default=9)
    parser.add_argument("--seq-len", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="another file than bench/results/<machine>/…")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    known = facts()
    ours = Ours(BenchSettings(chosen.encoder, (chosen.policy,), (chosen.tasks,)))
    rows = [
        measure_overhead(ours, chosen.policy, chosen.tasks, 1, length, chosen.rounds)
        for length in chosen.seq_len
    ]
    for row in rows:
        print(f"{row.seq_len} tokens: {row.share:.1%} of {row.call_ms:.1f} ms", flush=True)
    target = chosen.out or ROOT / "bench" / "results" / known["machine"] / "overhead.json"
    write_json(
        target, {**known, "encoder": chosen.encoder, "rows": [row.to_dict() for row in rows]}
    )
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
