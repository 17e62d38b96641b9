"""`lets export`: an engine for other runtimes."""

from __future__ import annotations

from typing import Annotated

import typer

from lets.cli.output import Json, print_json


def export(
    packs: Annotated[list[str], typer.Argument(help="Task packs, hub ids, or folders of packs.")],
    encoder: Annotated[str, typer.Option(help="The frozen encoder of the packs.")],
    onnx: Annotated[str, typer.Option(help="Folder of the ONNX file, tokenizer and labels.")],
    as_json: Json = False,
) -> None:
    """Write the encoder and its tasks as one ONNX graph, any batch and length."""
    from lets.cli.requests import load_encoder
    from lets.export.onnx import MODEL, export_onnx
    from lets.pack import expand_packs, load_pack

    loaded = load_encoder(encoder)
    tasks = [load_pack(pack, loaded) for pack in expand_packs(packs)]
    folder = export_onnx(loaded, tasks, onnx)
    size = (folder / MODEL).stat().st_size
    if as_json:
        names = [task.name for task in tasks]
        print_json({"folder": str(folder), "model": MODEL, "tasks": names, "bytes": size})
        return
    typer.echo(f"{folder / MODEL}: {len(tasks)} tasks, {size / 1e6:.1f} MB")
