"""`lets validate`: is a task pack sound?"""

from __future__ import annotations

from typing import Annotated

import typer

from lets.cli.output import Json, print_json
from lets.errors import LetsError


def validate(
    pack: Annotated[str, typer.Argument(help="Folder of a task pack, or a hub id.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            help="The encoder it was trained on: also recomputes the pack's sample outputs.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a task pack: structure, checksums, values and, with its encoder, its answers."""
    from lets.encoder import Encoder
    from lets.validate import validate_pack

    try:
        report = validate_pack(pack, None if encoder is None else Encoder.from_pretrained(encoder))
    except LetsError as error:
        if as_json:
            print_json({"pack": pack, "valid": False, "error": str(error)})
        raise
    if as_json:
        print_json(report)
        return
    checked = report["samples_checked"]
    answers = (
        f"{checked} sample answers agree to {report['max_difference']:.1e}"
        if checked
        else "sample answers not checked (give --encoder)"
    )
    typer.echo(
        f"{pack}: valid. Task {report['name']}, {report['live_layers']} live layers, "
        f"{report['non_zeros']} sparse weights, {report['tensors']} tensors; {answers}."
    )
