"""Task data out of the user's own CSV, TSV, JSONL and Parquet files with named columns.

Every text and label is checked while it is read, so that an error names file, row and column.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lets.errors import LetsError
from lets.scores import CLASSIFICATION, REGRESSION
from lets.tables import Table, read_table
from lets.task_data import TaskData, TaskRow, hold_out, outside

__all__ = [
    "Columns",
    "TaskData",
    "TaskRow",
    "load_task",
    "read_rows",
    "read_texts",
    "task_of_tables",
]


@dataclass(frozen=True)
class Columns:
    """Names of the columns that hold a task's texts and labels."""

    text: str = "text"
    text_pair: str | None = None
    label: str | None = "label"


def load_task(
    name: str,
    train_file: str | Path,
    dev_file: str | Path | None = None,
    *,
    text_column: str = "text",
    text_pair_column: str | None = None,
    label_column: str = "label",
    problem_type: str = CLASSIFICATION,
    labels: Sequence[str] | None = None,
    metric: str | None = None,
    dev_share: float = 0.1,
    seed: int = 0,
) -> TaskData:
    """A task from CSV, TSV, JSONL or Parquet files.

    Args:
        dev_file: Without it `dev_share` of the train file is held out, the same rows for a seed.
        labels: The classes in order. Default: those of the train file, numbers by value, else by
            name.
    """
    return task_of_tables(
        name,
        read_table(train_file),
        None if dev_file is None else read_table(dev_file),
        Columns(text_column, text_pair_column, label_column),
        problem_type,
        labels,
        metric,
        dev_share,
        seed,
    )


def task_of_tables(
    name: str,
    train_table: Table,
    dev_table: Table | None,
    columns: Columns,
    problem_type: str = CLASSIFICATION,
    labels: Sequence[str] | None = None,
    metric: str | None = None,
    dev_share: float = 0.1,
    seed: int = 0,
) -> TaskData:
    """The same from tables."""
    numeric = problem_type == REGRESSION
    given = None if labels is None else tuple(labels)
    train = read_rows(train_table, columns, numeric, given)
    if numeric:
        classes: tuple[str, ...] = given or ()
    else:
        classes = given or _sorted_labels(row.label for row in train)
    if dev_table is None:
        train, dev = hold_out(train, dev_share, seed, stratify=not numeric)
    else:
        dev = read_rows(dev_table, columns, numeric, classes)
    return TaskData(name, train, dev, classes, problem_type, metric or "")


def read_texts(
    path: str | Path, text_column: str = "text", text_pair_column: str | None = None
) -> list[str] | list[tuple[str, str]]:
    """Texts without labels, for prediction."""
    table = read_table(path)
    columns = Columns(text_column, text_pair_column, None)
    rows = read_rows(table, columns, numeric=False, labels=None)
    if text_pair_column is None:
        return [row.text for row in rows]
    return [(row.text, row.text_pair or "") for row in rows]


def read_rows(
    table: Table, columns: Columns, numeric: bool, labels: Sequence[str] | None
) -> list[TaskRow]:
    """Checked rows of a table. `labels` is the set of allowed names, None allows every name."""
    for column in (columns.text, columns.text_pair, columns.label):
        if column is not None:
            table.check_column(column)
    rows = []
    for where, record in table.rows:
        text = _text(record, columns.text, where)
        pair = None if columns.text_pair is None else _text(record, columns.text_pair, where)
        label: str | float = ""
        if columns.label is not None:
            value = record.get(columns.label)
            label = (
                _number(value, columns.label, where)
                if numeric
                else _name(value, columns.label, where)
            )
            if not numeric and labels is not None and label not in labels:
                raise LetsError(f"{where}, column {columns.label}: {outside(label, labels)}")
        rows.append(TaskRow(text, pair, label))
    if not rows:
        raise LetsError(f"{table.path}: must hold at least one row, got none")
    return rows


def _sorted_labels(labels: Iterable[str | float]) -> tuple[str, ...]:
    names = sorted({str(label) for label in labels})
    try:
        return tuple(sorted(names, key=float))
    except ValueError:
        return tuple(names)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(record: dict[str, Any], column: str, where: str) -> str:
    value = record.get(column)
    if not isinstance(value, str) or not value.strip():
        shown = "nothing" if _missing(value) else repr(value)
        raise LetsError(f"{where}, column {column}: must be text that is not empty, got {shown}")
    return value


def _name(value: Any, column: str, where: str) -> str:
    """A class label as text. Files may hold 1, 1.0 or "1": all are the class "1"; JSON's true and
    false are the classes "true" and "false"."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if _missing(value) or not isinstance(value, (str, int)) or not str(value).strip():
        shown = "nothing" if _missing(value) or value == "" else repr(value)
        raise LetsError(f"{where}, column {column}: must be a label, got {shown}")
    return str(value).strip()


def _number(value: Any, column: str, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise LetsError(f"{where}, column {column}: must be a finite number, got {value!r}")
    return number
