"""`lets ops`: what policies cost on an encoder of a given shape."""

from __future__ import annotations

from typing import Annotated

import typer

from lets.cli.output import Json, print_json


def ops(
    encoder: Annotated[
        str, typer.Option(help="bert-base, bert-large, minilm-l6, or a folder with a config.json.")
    ] = "bert-base",
    as_json: Json = False,
) -> None:
    """Print the operations, the parameters and the speed-ups of a set of policies."""
    from lets.shape import EncoderShape

    print_json({"encoder": EncoderShape.from_name(encoder).name})
