"""A result cell: what one system reached on one task with one seed; one JSON file each.

`bench/glue/run.py` writes cells, tables and figures read them; this is the one schema.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lets.config import ACCOUNTINGS, FitConfig
from lets.errors import LetsError
from lets.files import write_file
from lets.policy import Policy
from lets.scores import CLASSIFICATION, METRICS, PROBLEM_TYPES, REGRESSION, score
from lets.train.checkpoint import read_json

FORMAT = 1
NUM_TASKS = 9  # of the totals in `ops` and `params`, as in the paper's tables

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
OPS = ("new_ops_percent", "overhead_percent", "total_percent", "max_speedup")
PARAMS = ("new_params", "new_params_percent", "mask_percent", "total_params_ratio")


@dataclass(frozen=True)
class Cell:
    """One system on one task with one seed.

    Args:
        encoder: name, fingerprint and sizes of the encoder (`EncoderShape`).
        recipe: Name of the recipe; `settings` are its values (`FitConfig.to_dict()`), of the
            parts that the system reads.
        rows: Number of rows: train (to learn from), slice (of the training data, to choose the
            checkpoint on), dev (to report on).
        history: Per epoch: epoch, step, loss, score of `metric` on the slice; `chosen_epoch`
            is one of them.
        scores: On dev, by metric; `metric` is the task's (METHOD section 11).
        targets, predictions: Of dev, in its order: class indices, or numbers as `rounded` gives.
        policy: Input and pool letters, of systems that have one.
        ops: By accounting, `OPS`; percentages of the encoder at `settings.max_seq_length`; the
            total and the speed-up are those of nine tasks like this one.
        params: `PARAMS`, the ratio for nine tasks like this one.
        seconds: By stage; a shared search is in every cell that uses it.
    """

    task: str
    system: str
    seed: int
    recipe: str
    settings: dict[str, Any]
    encoder: dict[str, Any]
    rows: dict[str, int]
    problem_type: str
    metric: str
    history: list[dict[str, Any]]
    chosen_epoch: float
    scores: dict[str, float]
    targets: list[float]
    predictions: list[float]
    ops: dict[str, dict[str, float]]
    params: dict[str, float]
    seconds: dict[str, float]
    policy: dict[str, str] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)  # machine, device, commit, versions

    def __post_init__(self) -> None:
        for name in ("task", "system"):
            if not _NAME.fullmatch(str(getattr(self, name))):
                raise LetsError(
                    f"cell: {name} must be a lower-case name, got {getattr(self, name)!r}"
                )
        if self.problem_type not in PROBLEM_TYPES or self.metric not in METRICS:
            raise LetsError(f"cell: unknown problem {self.problem_type!r} or metric {self.metric}")
        if self.metric not in self.scores or not all(map(_finite, self.scores.values())):
            raise LetsError(f"cell: scores must be finite and hold {self.metric}")
        if not len(self.targets) == len(self.predictions) == self.rows.get("dev"):
            raise LetsError("cell: targets and predictions must be as many as rows.dev")
        if self.chosen_epoch not in [entry.get("epoch") for entry in self.history]:
            raise LetsError(f"cell: chosen_epoch {self.chosen_epoch} must be in the history")
        if set(self.ops) != set(ACCOUNTINGS):
            raise LetsError(f"cell: ops must be given in {', '.join(ACCOUNTINGS)}")
        for part, names in ((self.params, PARAMS), *((o, OPS) for o in self.ops.values())):
            if set(part) != set(names) or not all(map(_finite, part.values())):
                raise LetsError(f"cell: must hold finite {', '.join(names)}, got {part}")
        if self.policy is not None:
            Policy.from_dict(self.policy)
        again = score(self.metric, self.targets, self.predictions)
        if abs(again - self.score) > 1e-5:  # rank correlations see the digits that are not kept
            raise LetsError(f"cell: {self.metric} is {self.score}, its predictions give {again}")

    @property
    def score(self) -> float:
        """The task's score on dev, a fraction."""
        return self.scores[self.metric]

    @property
    def file_name(self) -> str:
        return cell_name(self.task, self.system, self.seed)

    def save(self, folder: str | Path) -> Path:
        """Write the cell into a folder under its own name, as a whole or not at all."""
        path = Path(folder) / self.file_name
        raw = {"format": FORMAT, **asdict(self)}
        for name in ("targets", "predictions"):
            raw[name] = _packed(raw[name], self.problem_type)
        # A line per field: short enough to keep hundreds of cells, and still good to compare.
        lines = (f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in raw.items())
        write_file(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Cell:
        """Read and check a cell; the error names the file."""
        raw = read_json(Path(path))
        try:
            if raw.pop("format", None) != FORMAT:
                raise LetsError(f"cell: format must be {FORMAT}")
            known, missing = {f.name for f in fields(cls)}, _REQUIRED - set(raw)
            if missing or set(raw) - known:
                raise LetsError(
                    f"cell: lacks {sorted(missing)}, has unknown {sorted(set(raw) - known)}"
                )
            for name in ("targets", "predictions"):
                raw[name] = _unpacked(raw[name], raw["problem_type"])
            return cls(**raw)
        except (LetsError, TypeError, ValueError, AttributeError) as error:
            raise LetsError(f"{path}: {error}") from None


_REQUIRED = {f.name for f in fields(Cell)} - {"policy", "details", "environment"}


def cell_name(task: str, system: str, seed: int) -> str:
    """File name of a cell."""
    return f"{task}.{system}.{seed}.json"


def load_cells(folder: str | Path) -> list[Cell]:
    """All cells of a folder, by file name."""
    folder = Path(folder)
    if not folder.is_dir():
        raise LetsError(f"{folder}: folder of result cells not found; run python -m bench.glue.run")
    return [Cell.load(path) for path in sorted(folder.glob("*.json"))]


def differences(
    cell: Cell, config: FitConfig, fingerprint: str, rows: Mapping[str, int]
) -> list[str]:
    """Where a cell was made otherwise than it would be now, by name.

    A setting that only one side knows did not exist for the other and counts as equal.
    """
    found = _unequal(cell.settings, config.to_dict())
    if cell.encoder.get("fingerprint") != fingerprint:
        found.append("encoder")
    return found + [f"number of {name} rows" for name in rows if rows[name] != cell.rows.get(name)]


def _unequal(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name in old.keys() & new.keys():
        if isinstance(old[name], Mapping) and isinstance(new[name], Mapping):
            found += _unequal(old[name], new[name], f"{prefix}{name}.")
        elif old[name] != new[name]:
            found.append(prefix + name)
    return sorted(found)


def rounded(number: float) -> float:
    """A prediction as cells keep it: four digits; scores are those of the rounded predictions."""
    return float(f"{number:.4g}")


def _packed(values: list[float], problem_type: str) -> str:
    """Class indices as one string of digits, numbers with spaces between."""
    if problem_type == REGRESSION:
        return " ".join(f"{value:.4g}" for value in values)
    return "".join(str(int(value)) for value in values)


def _unpacked(packed: str, problem_type: str) -> list[float]:
    if problem_type == CLASSIFICATION:
        return [int(sign) for sign in packed]
    return [float(number) for number in packed.split()]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
