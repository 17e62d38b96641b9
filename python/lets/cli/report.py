"""`lets report`: pictures of a set of packs on one offline page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lets.cli.output import Json, print_json

_PATHS = {"show_default": False}


def report(
    packs: Annotated[
        list[str],
        typer.Argument(help="Task packs of one encoder, or folders of packs.", **_PATHS),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page.")
    ] = Path("report.html"),
    encoder: Annotated[
        str | None,
        typer.Option(help="Folder or built-in shape; default: as the packs say.", **_PATHS),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(help="Output folder of lets fit, for searches; repeatable.", **_PATHS),
    ] = None,
    trace: Annotated[
        str | None, typer.Option(help="File of lets bench --trace.", **_PATHS)
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option(help="Tokens of a padded text; default: the packs' longest.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Also write each picture into this folder.", **_PATHS)
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Draw architectures, costs, masks and searches of task packs as one offline HTML page."""
    from lets.files import write_file
    from lets.report.build import build_report
    from lets.report.page import report_html
    from lets.report.png import save_png

    built = build_report(packs, encoder, run or (), trace, seq_len)
    if png is not None:  # may fail, and then there is no page either
        for name, drawing in built.pictures.items():
            save_png(drawing, png / f"{name}.png")
    write_file(output, report_html(built).encode())
    if as_json:
        print_json({**built.data, "page": str(output), "pictures": list(built.pictures)})
    else:
        typer.echo(f"{output}: {len(built.pictures)} pictures of {len(built.data['tasks'])} tasks")
