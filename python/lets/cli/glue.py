"""`lets glue-submission`: the files for gluebenchmark.com."""

from __future__ import annotations

from typing import Annotated

import typer

from lets.cli.output import Json, print_json


def glue_submission(
    encoder: Annotated[str, typer.Option(help="The frozen encoder of the packs.")],
    pack: Annotated[list[str], typer.Option(help="Task pack, named as its GLUE task; once each.")],
    glue_dir: Annotated[str, typer.Option(help="Folder with GLUE's tasks as sub-folders.")],
    output_dir: Annotated[str, typer.Option(help="CoLA.tsv, MNLI-m.tsv, ... go here.")],
    archive: Annotated[bool, typer.Option("--zip", help="Also write submission.zip.")] = False,
    per_device_eval_batch_size: Annotated[int, typer.Option(help="Rows per batch.")] = 32,
    as_json: Json = False,
) -> None:
    """Answer GLUE's tests with task packs and write the files that its server takes.

    The diagnostic set AX is answered by the MNLI pack where its file is there.
    """
    from lets.cli.requests import load_encoder
    from lets.glue_submission import write_submission

    result = write_submission(
        load_encoder(encoder), pack, glue_dir, output_dir, per_device_eval_batch_size, archive
    )
    if as_json:
        print_json(result.to_dict())
        return
    for written in result.files:
        rows = f"{written.rows} rows"
        if written.rows != written.official_rows:
            rows += f", GLUE's test has {written.official_rows}"
        typer.echo(f"{written.file}: {rows}")
    if result.missing:
        typer.echo(f"missing for a complete submission: {', '.join(result.missing)}")
