"""TaskData: the labelled texts of one task, checked, and how a dev set is held out."""

from __future__ import annotations

import math
import random
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lets.errors import LetsError
from lets.scores import CLASSIFICATION, DEFAULT_METRIC, PROBLEM_TYPES, REGRESSION, check_metric


@dataclass(frozen=True)
class TaskRow:
    """One example: a text or a pair, and its label's name or, in regression, its number."""

    text: str
    text_pair: str | None
    label: str | float


@dataclass(frozen=True)
class TaskData:
    """A task's examples and what its answers look like.

    Args:
        labels: Names of the classes in the order of the logits; empty for regression.
        problem_type: "classification" or "regression".
        metric: The score that selects checkpoints, see `lets.scores`.
    """

    name: str
    train: list[TaskRow]
    dev: list[TaskRow]
    labels: tuple[str, ...]
    problem_type: str = CLASSIFICATION
    metric: str = ""

    def __post_init__(self) -> None:
        if self.problem_type not in PROBLEM_TYPES:
            raise LetsError(
                f"{self.name}: problem_type must be one of {', '.join(PROBLEM_TYPES)}, "
                f"got {self.problem_type!r}"
            )
        object.__setattr__(self, "metric", self.metric or DEFAULT_METRIC[self.problem_type])
        check_metric(self.metric, self.problem_type)
        check_labels(self.name, self.labels, self.problem_type)
        for split in ("train", "dev"):
            rows = getattr(self, split)
            if not rows:
                raise LetsError(f"{self.name}: {split} must hold at least one row, got none")
            for position, row in enumerate(rows):
                self._check_row(f"{self.name}: {split} row {position}", row)
        if len({row.text_pair is None for row in (*self.train, *self.dev)}) > 1:
            raise LetsError(f"{self.name}: rows must be all single texts or all pairs, got both")

    def _check_row(self, where: str, row: TaskRow) -> None:
        if not row.text.strip():
            raise LetsError(f"{where}: text must not be empty")
        if self.problem_type == REGRESSION:
            if not isinstance(row.label, (int, float)) or not math.isfinite(row.label):
                raise LetsError(f"{where}: label must be a finite number, got {row.label!r}")
        elif row.label not in self.labels:
            raise LetsError(f"{where}: {outside(row.label, self.labels)}")

    @property
    def num_labels(self) -> int:
        """Width of the logits: the number of classes, 1 for regression."""
        return len(self.labels) or 1

    @property
    def is_pair(self) -> bool:
        return self.train[0].text_pair is not None

    def texts(self, rows: Iterable[TaskRow]) -> list[str] | list[tuple[str, str]]:
        """What `Encoder.tokenize` takes: texts, or pairs."""
        rows = list(rows)
        if self.is_pair:
            return [(row.text, row.text_pair or "") for row in rows]
        return [row.text for row in rows]

    def targets(self, rows: Iterable[TaskRow]) -> list[int] | list[float]:
        """Class indices, or numbers for regression."""
        if self.problem_type == REGRESSION:
            return [float(row.label) for row in rows]
        index = {label: position for position, label in enumerate(self.labels)}
        return [index[str(row.label)] for row in rows]

    def subset(self, train_rows: int | None, dev_rows: int | None, seed: int = 0) -> TaskData:
        """The same task with at most so many rows, drawn by seed; None keeps all."""
        for split, count in (("train", train_rows), ("dev", dev_rows)):
            if count is not None and count < 1:
                raise LetsError(f"{self.name}: {split} must keep at least one row, got {count}")

        def draw(rows: list[TaskRow], count: int | None, seed: int) -> list[TaskRow]:
            if count is None or count >= len(rows):
                return rows
            return random.Random(seed).sample(rows, count)

        return replace(
            self, train=draw(self.train, train_rows, seed), dev=draw(self.dev, dev_rows, seed + 1)
        )


def hold_out(
    rows: Sequence[TaskRow], share: float, seed: int, stratify: bool
) -> tuple[list[TaskRow], list[TaskRow]]:
    """Split into (train, dev); rows with the same text stay together, classes in proportion.

    Every class with two different texts or more gives at least one of them to dev.
    """
    if not 0.0 < share < 1.0:
        raise LetsError(f"dev_share must be between 0 and 1, got {share}")
    groups: dict[tuple[str, str | None], list[int]] = {}
    for position, row in enumerate(rows):
        groups.setdefault((row.text, row.text_pair), []).append(position)
    strata: dict[Any, list[list[int]]] = {}
    for group in groups.values():
        strata.setdefault(rows[group[0]].label if stratify else None, []).append(group)
    held: set[int] = set()
    generator = random.Random(seed)
    for key in sorted(strata, key=str):
        members = strata[key]
        generator.shuffle(members)
        wanted = min(len(members) - 1, max(1, round(share * len(members))))
        held.update(position for group in members[:wanted] for position in group)
    if not held:
        raise LetsError(
            f"dev_share: too few different texts to hold any out ({len(groups)}); give a dev file"
        )
    train = [row for position, row in enumerate(rows) if position not in held]
    return train, [rows[position] for position in sorted(held)]


def check_labels(name: str, labels: Sequence[str], problem_type: str) -> None:
    if problem_type == REGRESSION:
        if labels:
            raise LetsError(f"{name}: labels must be empty for regression, got {list(labels)}")
        return
    if any(not isinstance(label, str) or not label.strip() for label in labels):
        raise LetsError(f"{name}: labels must be names that are not empty, got {list(labels)}")
    for label in labels:
        # They are printed on terminals and written to JSON, and a pack's come from strangers.
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in label):
            raise LetsError(f"{name}: labels must hold no control characters, got {label!r}")
    twice = sorted({label for label in labels if list(labels).count(label) > 1})
    if twice:
        raise LetsError(f"{name}: labels must be different, got {', '.join(twice)} more than once")
    if len(labels) < 2:
        raise LetsError(f"{name}: labels must be at least two, got {list(labels)}")


def outside(label: Any, labels: Sequence[str]) -> str:
    """The message about a label that is not one of the task's."""
    return f"label must be one of {', '.join(labels)}, got {label!r}"
