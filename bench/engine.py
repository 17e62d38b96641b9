"""The engine beside dense models: ``python -m bench.engine [--minutes M] [--threads N] [run ...]``.

Writes ``bench/results/<machine>/engine.json`` after every row of the runs below, and goes on from
what is there: rows of the same settings stay. ``--again`` measures them anew. The whole grid (runs
``grid-...``, hours) is measured only when it is named.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lets.bench.report import Row, commit, facts
from lets.bench.run import Outcome, run_bench
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
    "lengths": {"baselines": CPU, "seq_len": (32, 128, 512), "seconds": 8, "max_models": 3},
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
GRID = {
    f"grid-{encoder}": {
        "encoder": encoder,
        "policies": policies,
        "tasks": (1, 2, 4, 9, 20, 50),
        "batch": (1, 8, 32),
        "seq_len": (32, 128, 512),
        "baselines": CPU,
        "seconds": 8,
        "max_models": 2,
    }
    for encoder, policies in (
        ("bert-base", ("fig2b", "g-3", "g-4", "random")),
        ("bert-large", ("g-3", "g-4", "random")),
        ("minilm-l6", ("g-3", "random")),
    )
}
MEASURING = ("rounds", "seconds", "max_memory", "max_models", "baselines", "cls_last")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="*", metavar="run", help=f"of {', '.join(RUNS | GRID)}")
    parser.add_argument("--again", action="store_true", help="also what is there already")
    parser.add_argument("--minutes", type=float, default=16.0, help="no run begins after this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="in place of bench/results/<machine>/engine.json")
    chosen = parser.parse_args(arguments)
    unknown = sorted(set(chosen.runs) - set(RUNS | GRID))
    if unknown:
        parser.error(f"run must be one of {', '.join(RUNS | GRID)}, got {unknown[0]}")
    torch.set_num_threads(chosen.threads)
    known = facts()
    target = chosen.out or ROOT / "bench" / "results" / known["machine"] / "engine.json"
    result = {**known, "runs": _earlier(target)}
    started = time.monotonic()
    for name in chosen.runs or RUNS:
        if time.monotonic() - started > 60 * chosen.minutes:
            print(f"{name}: not measured, the time is up", flush=True)
            continue
        settings = BenchSettings(**(RUNS | GRID)[name], threads=chosen.threads)
        before = {} if chosen.again else result["runs"].get(name, {})

        def save(run: dict, name: str = name) -> None:
            result["runs"][name] = run
            write_json(target, result)

        measure(name, settings, before, save)
    print(target)
    return int(any(row["error"] for run in result["runs"].values() for row in run["rows"]))


def measure(name: str, settings: BenchSettings, before: dict, save: Callable[[dict], None]) -> None:
    """One run; `save` gets it as it is kept, after every row, with rows of the same settings."""
    begun, wanted = time.monotonic(), settings.to_dict()
    rows = before["rows"] if before and _same(before["settings"], wanted) else []
    seconds = before["seconds"] if rows else 0.0
    commits = [*(before["commit"].split(", ") if rows else ()), str(commit())]

    def kept(outcome: Outcome) -> None:
        if len(outcome.rows) > len(rows) or outcome.skipped:
            run = {
                "commit": ", ".join(dict.fromkeys(commits)),
                "settings": wanted,
                "rows": [row.to_dict() for row in outcome.rows],
                "skipped": outcome.skipped,
                "seconds": round(seconds + time.monotonic() - begun, 1),
            }
            save(run)

    kept(
        run_bench(
            settings,
            lambda line: print(f"{name}: {line}", flush=True),
            earlier=[Row(**row) for row in rows],
            keep=kept,
        )
    )


def _same(before: dict, wanted: dict) -> bool:
    """Whether rows of both settings say the same: how long they were measured is no matter."""
    sizes = (*MEASURING, "policies", "tasks", "batch", "seq_len")  # a row has its own of these
    known = json.loads(json.dumps(wanted))
    return all(before.get(key) == known[key] for key in known if key not in sizes)


def _earlier(target: Path) -> dict:
    return json.loads(target.read_text())["runs"] if target.exists() else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
