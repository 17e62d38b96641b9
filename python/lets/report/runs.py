"""What the folders of `lets fit` hold for a report: searches, and full fine-tuning's scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lets.errors import LetsError
from lets.train.checkpoint import read_json

_DEPTH = 4  # folders below the one given


@dataclass(frozen=True)
class Run:
    """One task's run.

    Args:
        search: Entries of the search's history; empty without a search.
        data: Fingerprint of the rows that the task was trained on.
    """

    task: str
    folder: Path
    data: str
    search: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Runs:
    """All runs below some folders, and full fine-tuning's dev score of each task that has one."""

    runs: dict[str, Run]
    full: dict[str, float]


def find_runs(folders: Sequence[str | Path]) -> Runs:
    """Look for the output folders of `lets fit`, also some levels below the folders given."""
    runs: dict[str, Run] = {}
    full_by_data: dict[str, float] = {}
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise LetsError(f"{folder}: folder not found; give the --output-dir of lets fit")
        before = len(runs) + len(full_by_data)
        for path in _records(folder):
            record = read_json(path)
            if record.get("stage") == "pack":
                run = _run(path, record)
                runs[run.task] = run
            elif record.get("stage") == "full":
                full_by_data[record["inputs"]["data"]] = float(record["result"]["dev_score"])
        if len(runs) + len(full_by_data) == before:
            raise LetsError(f"{folder}: holds no finished run of lets fit")
    full = {t: full_by_data[run.data] for t, run in runs.items() if run.data in full_by_data}
    return Runs(runs, full)


def _records(folder: Path) -> list[Path]:
    patterns = ("*/" * depth + name for depth in range(_DEPTH) for name in _NAMES)
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


_NAMES = ("pack.json", "result.json")


def _run(path: Path, record: dict[str, Any]) -> Run:
    folder = path.parent
    try:
        data = read_json(folder / "finetune" / "result.json")["inputs"]["data"]
        search = folder / "search" / "result.json"
        history = read_json(search)["result"]["history"] if search.is_file() else []
        return Run(record["inputs"]["name"], folder, data, history)
    except (KeyError, TypeError) as error:
        raise LetsError(f"{folder}: a record of lets fit lacks {error}") from error
