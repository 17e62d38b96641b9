"""The engine beside dense models: ``python -m bench.engine [--minutes M] [--threads N] [run ...]``.

Writes ``bench/results/<machine>/engine.json`` after every run of the list below, so that what is
measured stays when it is interrupted. Named runs alone are measured again; the others stay.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from lets.bench.report import commit, facts
from lets.bench.run import run_bench
from lets.bench.settings import BenchSettings
from lets.files import write_json

ROOT = Path(__file__).resolve().parents[1]
CPU = ("eager", "ort-fp32", "ort-int8")

# In the order of what is asked first; `seconds` bounds a row, though not below three rounds.
RUNS = {
    "goal": {"baselines": ("eager", "own-dense", *CPU[1:]), "cls_last": True, "seconds": 12},
    "int8": {"baselines": ("own-dense", "ort-int8"), "quantization": "int8", "seconds": 12},
    "tasks": {"baselines": CPU, "tasks": (1, 2, 4, 9, 20, 50), "seconds": 8, "max_models": 4},
    "serial": {"baselines": ("eager",), "mode": "serial", "seconds": 12},
    "lengths": {"baselines": CPU, "seq_len": (32, 512), "seconds": 8, "max_models": 3},
    "policies": {
        "baselines": ("eager", "ort-fp32"),
        "policies": ("g-3", "g-4", "random"),
        "seconds": 10,
    },
    "batches": {"baselines": ("eager", "ort-fp32"), "batch": (8,), "seconds": 8, "max_models": 2},
    "minilm": {
        "encoder": "minilm-l6",
        "policies": ("random",),
        "tasks": (3, 9),
        "batch": (1, 32),
        "baselines": CPU,
        "seconds": 5,
        "max_models": 3,
    },
    "shared": {"baselines": ("stacked", "lora-switch", "lora-mixed"), "seconds": 12},
    "large": {
        "encoder": "bert-large",
        "policies": ("g-4",),
        "baselines": ("eager",),
        "seconds": 10,
        "max_models": 3,
    },
    "compile": {"baselines": ("compile",), "seconds": 12, "max_models": 1},
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="run", help=f"of {', '.join(RUNS)}")
    parser.add_argument("--minutes", type=float, default=16.0, help="no run begins after this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="in place of bench/results/<machine>/engine.json")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.runs) - set(RUNS))
    if unknown:
        parser.error(f"run must be one of {', '.join(RUNS)}, got {unknown[0]}")
    torch.set_num_threads(chosen.threads)
    known = facts()
    target = chosen.out or ROOT / "bench" / "results" / known["machine"] / "engine.json"
    result = {**known, "runs": _earlier(target) if chosen.runs else {}}
    started = time.monotonic()
    for name in chosen.runs or RUNS:
        if time.monotonic() - started > 60 * chosen.minutes:
            print(f"{name}: not measured, the time is up", flush=True)
            continue
        result["runs"][name] = measure(name, chosen.threads)
        write_json(target, result)
    print(target)
    return int(any(row["error"] for run in result["runs"].values() for row in run["rows"]))


def measure(name: str, threads: int) -> dict:
    """One run of the list, as it is kept."""
    begun = time.monotonic()
    settings = BenchSettings(**RUNS[name], threads=threads)
    outcome = run_bench(settings, lambda line: print(f"{name}: {line}", flush=True))
    return {
        "commit": commit(),
        "settings": settings.to_dict(),
        "rows": [row.to_dict() for row in outcome.rows],
        "skipped": outcome.skipped,
        "seconds": round(time.monotonic() - begun, 1),
    }


def _earlier(target: Path) -> dict:
    return json.loads(target.read_text())["runs"] if target.exists() else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
