"""What verbs print: JSON for machines, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def print_json(data: Any) -> None:
    """One JSON document on standard output; NaN is an error, not invalid JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table under a title; columns of numbers are set to the right and never broken."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for position, column in enumerate(columns):
        numbers = all(row[position][:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if numbers else "left", no_wrap=numbers)
    for row in rows:
        table.add_row(*row)
    # A file or a pipe has no width: wide enough there for every table.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, markup=False)
    console.print(title, table, sep="\n")
