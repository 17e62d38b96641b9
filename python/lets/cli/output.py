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
    """A table whose first column is text and whose others are numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=bool(position))
    for row in rows:
        table.add_row(*row)
    # Into a file or a pipe nothing is cut to the width of a terminal.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, markup=False)
    console.print(title, table, sep="\n")
