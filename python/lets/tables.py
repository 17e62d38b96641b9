"""Tables with named columns out of CSV, TSV, JSONL and Parquet files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lets.errors import LetsError

# The largest field that the csv module may read; its own default is 128 KiB, less than a document.
_FIELD_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class Table:
    """Columns' names, and (where it stands, {column: value}) for each row."""

    path: Path
    columns: tuple[str, ...]
    rows: list[tuple[str, dict[str, Any]]]

    def check_column(self, name: str) -> None:
        if name not in self.columns:
            raise LetsError(
                f"{self.path}: column {name!r} not found; available: {', '.join(self.columns)}"
            )


def read_table(path: str | Path) -> Table:
    """Read a table; the suffix decides the format."""
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise LetsError(
            f"{path}: the file name must end in one of {', '.join(_READERS)}, got {path.suffix!r}"
        )
    if not path.is_file():
        raise LetsError(f"{path}: file not found")
    try:
        return reader(path)
    except UnicodeDecodeError as error:
        raise LetsError(f"{path}: must be UTF-8 text, got {error}") from error
    except OSError as error:
        raise LetsError(f"{path}: cannot be read: {error.strerror or error}") from error


def table_of(dataset: Any, name: str) -> Table:
    """A table of rows in memory: mappings from column to value, a Dataset of `datasets` too.

    Classes that a Dataset stores as numbers get their names.
    """
    features = getattr(dataset, "features", None) or {}
    names = {c: n for c, f in features.items() if (n := getattr(f, "names", None))}
    rows = []
    for position, record in enumerate(dataset):
        if not isinstance(record, Mapping):
            raise LetsError(
                f"{name}: row {position} must be a mapping from column to value, "
                f"got {type(record).__name__}"
            )
        named = {c: names[c][v] if c in names and v is not None else v for c, v in record.items()}
        rows.append((f"{name}, row {position}", named))
    return Table(Path(name), tuple(rows[0][1]) if rows else (), rows)


def read_delimited(
    path: Path,
    columns: tuple[str, ...] | None = None,
    delimiter: str = "\t",
    quoted: bool = False,
    skip_incomplete: bool = False,
) -> Table:
    """Read CSV or TSV.

    Args:
        columns: Their names, if the file has no header.
        quoted: Whether a field may be quoted. TSV has no quoting: a quote in it is a quote.
        skip_incomplete: Pass over rows that lack fields, instead of refusing the file.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    rows = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = csv.reader(
            file,
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            strict=quoted,
        )
        try:
            if columns is None:
                columns = _header(path, next(records, None))
            for record in records:
                where = f"{path}, line {records.line_num}"
                if not record:
                    continue
                if len(record) != len(columns):
                    if skip_incomplete and len(record) < len(columns):
                        continue
                    raise LetsError(
                        f"{where}: must have {len(columns)} fields ({', '.join(columns)}), "
                        f"got {len(record)}"
                    )
                rows.append((where, dict(zip(columns, record))))
        except csv.Error as error:
            raise LetsError(f"{path}, line {records.line_num}: {error}") from error
    return Table(path, columns, rows)


def _header(path: Path, names: list[str] | None) -> tuple[str, ...]:
    if not names:
        raise LetsError(f"{path}: must start with a line of column names, got an empty file")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LetsError(f"{path}: column names must be different, got {', '.join(twice)} twice")
    return tuple(names)


def _csv(path: Path) -> Table:
    return read_delimited(path, delimiter=",", quoted=True)


def _jsonl(path: Path) -> Table:
    rows: list[tuple[str, dict[str, Any]]] = []
    columns: dict[str, None] = {}
    with path.open(encoding="utf-8-sig") as file:
        for where, line in _lines(path, file):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise LetsError(f"{where}: not JSON: {error}") from error
            if not isinstance(record, dict):
                raise LetsError(f"{where}: must be a JSON object, got {type(record).__name__}")
            columns.update(dict.fromkeys(record))
            rows.append((where, record))
    return Table(path, tuple(columns), rows)


def _lines(path: Path, file: Any) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            yield f"{path}, line {number}", line


def _parquet(path: Path) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise LetsError(
            f"{path}: Parquet needs pyarrow, which is not installed; pip install 'lets-ext[train]'"
        ) from error
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise LetsError(f"{path}: not a Parquet file: {error}") from error
    rows = [(f"{path}, row {i}", record) for i, record in enumerate(table.to_pylist())]
    return Table(path, tuple(table.column_names), rows)


_READERS: dict[str, Callable[[Path], Table]] = {
    ".csv": _csv,
    ".tsv": read_delimited,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
}
