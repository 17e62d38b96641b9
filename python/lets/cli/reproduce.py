"""`lets reproduce`: the paper's tables and figures from result cells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lets.cli.output import Json, print_json, print_table
from lets.errors import LetsError

CELLS = Path("bench/glue/results")


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            help="summary, table1, table2, table3, figure1, figure3, figure5, figure6, figure7, "
            "front, search, overheads, seqlen, or all.",
            show_default=False,
        ),
    ],
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder of result cells (default: bench/glue/results).", show_default=False
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Whose cells, if there are several encoders'.", show_default=False),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of lets fit, for masks and searches; repeatable.", show_default=False
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output-dir", "-o", help="Write Markdown and pictures here.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make tables and figures of the paper again: measured cells, and costs from the cost model."""
    from lets.reproduce.pages import PAGES, build_page
    from lets.reproduce.source import Source

    for folder in (results, *(run or ())):
        if folder is not None and not folder.is_dir():
            raise LetsError(f"reproduce: {folder}: folder not found")
    source = Source(results or CELLS, encoder, tuple(run or ()))
    pages = [build_page(name, source) for name in (PAGES if what == "all" else (what,))]
    for page in pages:
        if output_dir is not None:
            page.save(output_dir)
        if not as_json:
            typer.echo("\n".join(page.text))
            for table in page.tables:
                print_table(*table)
    if as_json:
        data = {page.name: page.data for page in pages}
        print_json(data if what == "all" else data[what])
