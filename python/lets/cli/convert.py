"""`lets convert`: models that exist already as task packs; `lets merge`: the other way."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from lets.cli.config_file import Config
from lets.cli.options import ConvertOptions, DataOptions, with_options
from lets.cli.output import Json, print_json, print_table
from lets.errors import LetsError


@with_options(DataOptions, ConvertOptions)
def convert(
    data: DataOptions,
    run: ConvertOptions,
    dense: Annotated[
        str | None,
        typer.Option(help="Fine-tuned checkpoint, folder or hub id.", show_default=False),
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Folder of a PEFT SHiRA adapter.", show_default=False)
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="JSON file or preset (default: g-2; g-1 if layers are odd).",
                     show_default=False),
    ] = None,
    score: Annotated[str, typer.Option(help="gradient or magnitude: ranks changes.")] = "gradient",
    temperature: Annotated[float, typer.Option(help="Of the distillation.")] = 2.0,
    labels: Annotated[
        str | None,
        typer.Option(help="Names of the model's classes: a,b,... (default: its own).",
                     show_default=False),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Turn a fine-tuned model into a task pack, and print what was lost."""
    from lets.cli.requests import load_encoder, read_config, read_data
    from lets.convert.checkpoint import load_fine_tuned
    from lets.convert.convert import ConvertConfig, with_labels_of
    from lets.convert.convert import convert as run_convert
    from lets.convert.shira import load_shira
    from lets.policy import Policy
    from lets.progress import TerminalProgress

    if (dense is None) == (adapter is None):
        raise LetsError("convert: give --dense or --adapter, and not both")
    settings = read_config(run, data.task_name)
    encoder = load_encoder(run.encoder, run.revision, run.device)
    # An adapter on the ordinary architecture is converted exactly, unless something else is wanted.
    exact = adapter is not None and policy is None and run.variant in (None, "p")
    variant, layers = "p" if exact else settings.variant, encoder.shape.num_layers
    spec = policy or ("g-1" if variant == "p" or layers % 2 else "g-2")
    chosen = Policy.from_spec(spec, layers, encoder.shape.name)
    how = ConvertConfig(chosen, variant, score, temperature)
    names, masks = [] if labels is None else labels.split(","), None
    if dense is not None:
        tuned = load_fine_tuned(dense, encoder, names)
    else:
        tuned, masks = load_shira(str(adapter), encoder, names)
    rows = read_data(dataclasses.replace(data, problem_type=tuned.problem_type), settings.seed)
    report = run_convert(
        encoder,
        tuned,
        with_labels_of(tuned, rows),
        how,
        settings,
        run.output_dir or f"packs/{rows.name}",
        masks=masks,
        train=not exact,
        progress=TerminalProgress(),
        overwrite=run.overwrite,
    )
    if as_json:
        print_json(report)
    else:
        print_conversion(report)


def print_conversion(report: dict[str, Any]) -> None:
    """What the pack gives up and what it costs, for people."""
    lost = report["dense_score"] - report["pack_score"]
    columns = ["", report["metric"], "operations", "parameters"]
    rows = [
        ["dense", f"{report['dense_score']:.4f}", "100.0%", "100.00%"],
        [
            "pack",
            f"{report['pack_score']:.4f}",
            f"{report['new_ops_percent']:.1f}%",
            f"{report['new_parameters_percent']:.2f}%",
        ],
    ]
    print_table(f"On {report['rows']} development rows, of the encoder", columns, rows)
    typer.echo(
        f"lost: {lost:.4f} {report['metric']}; same answer on {report['agreement']:.1%} of rows\n"
        f"held: {report['delta_kept']:.1%} of the squared change of the matrices; the embeddings' "
        f"change, {report['embeddings_changed']:.1%}, cannot be\n"
        f"frozen layers below the pack, shared by all tasks: {report['frozen_ops_percent']:.1f}%\n"
        f"pack: {report['pack']}"
    )


def merge(
    pack: Annotated[str, typer.Argument(help="Task pack of variant p: folder or hub id.")],
    encoder: Annotated[str, typer.Option(help="The frozen encoder of the pack.")],
    output: Annotated[str, typer.Option("--output", "-o", help="New folder of the model.")],
    as_json: Json = False,
) -> None:
    """Write a LeTS-(p) pack as a plain classifier of transformers."""
    from lets.cli.requests import load_encoder
    from lets.convert.merge import save_merged
    from lets.pack import load_pack

    loaded = load_encoder(encoder)
    folder = save_merged(load_pack(pack, loaded), loaded, output)
    if as_json:
        print_json({"model": str(folder)})
        return
    typer.echo(f"{folder}: AutoModelForSequenceClassification.from_pretrained reads it")
