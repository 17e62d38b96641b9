"""`lets eval` and `lets predict`: what trained models score and answer."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from lets.cli.options import EngineOptions, with_options
from lets.cli.output import Json, print_json
from lets.errors import LetsError

TextColumn = Annotated[str, typer.Option(help="Column with the text.")]
PairColumn = Annotated[
    str | None, typer.Option(help="Column with the second text of a pair.", show_default=False)
]


def evaluate(
    model: Annotated[str, typer.Argument(help="Task pack, or a fully fine-tuned checkpoint.")],
    validation_file: Annotated[str, typer.Option(help="CSV, TSV, JSONL or Parquet file.")],
    encoder: Annotated[
        str | None, typer.Option(help="The frozen encoder of a task pack.", show_default=False)
    ] = None,
    text_column: TextColumn = "text",
    text_pair_column: PairColumn = None,
    label_column: Annotated[str, typer.Option(help="Column with the label.")] = "label",
    metric: Annotated[
        str | None, typer.Option(help="Default: the model's own.", show_default=False)
    ] = None,
    per_device_eval_batch_size: Annotated[int, typer.Option(help="Rows per batch.")] = 32,
    max_seq_length: Annotated[int, typer.Option(help="Of a full checkpoint's texts.")] = 128,
    as_json: Json = False,
) -> None:
    """Score a task pack or a full checkpoint on a labelled file."""
    from lets.cli.requests import load_encoder
    from lets.data import Columns
    from lets.evaluate import evaluate_full, evaluate_pack, is_full_checkpoint

    columns = Columns(text_column, text_pair_column, label_column)
    if is_full_checkpoint(model):
        result = evaluate_full(
            model, validation_file, columns, metric, per_device_eval_batch_size, max_seq_length
        )
    elif encoder is None:
        raise LetsError(f"--encoder: {model} is a task pack, which needs its frozen encoder")
    else:
        result = evaluate_pack(
            load_encoder(encoder), model, validation_file, columns, metric,
            per_device_eval_batch_size,
        )  # fmt: skip
    if as_json:
        print_json({"model": model, **result})
        return
    typer.echo(f"{result['metric']}: {result['score']:.4f}  ({result['rows']} rows)")


@with_options(EngineOptions)
def predict(
    engine: EngineOptions,
    encoder: Annotated[str, typer.Option(help="The frozen encoder of the packs.")],
    pack: Annotated[list[str], typer.Option(help="Task pack or folder of packs; repeatable.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; none: one per line of standard input.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="CSV, TSV, JSONL or Parquet file.", show_default=False)
    ] = None,
    text_column: TextColumn = "text",
    text_pair_column: PairColumn = None,
    per_device_eval_batch_size: Annotated[int, typer.Option(help="Rows per batch.")] = 32,
    as_json: Json = False,
) -> None:
    """Answer texts with every pack in one pass of the encoder."""
    from lets.answers import answer
    from lets.data import read_texts
    from lets.pack import expand_packs
    from lets.precision import named_dtype
    from lets.run.engine import Engine

    if texts and file:
        raise LetsError("predict: give texts or --file, not both")
    wanted = (
        read_texts(file, text_column, text_pair_column)
        if file
        else texts or [line for line in sys.stdin.read().splitlines() if line.strip()]
    )
    loaded = Engine.from_pretrained(
        encoder, expand_packs(pack), device=engine.device, mode=engine.mode,
        dtype=named_dtype(engine.dtype, "predict"), quantization=engine.quantization,
        batch_size=per_device_eval_batch_size,
    )  # fmt: skip
    answers = answer(loaded, wanted)
    if as_json:
        print_json(answers)
        return
    for entry in answers:
        typer.echo(entry["text"] if isinstance(entry["text"], str) else " | ".join(entry["text"]))
        for task, found in entry["answers"].items():
            typer.echo(f"  {task}: {_shown(task, found)}")


def _shown(task: str, found: dict[str, Any]) -> str:
    if "error" in found:
        return found["error"].removeprefix(f"{task}: ")
    if isinstance(found["label"], float):  # regression: the answer is the number
        return f"{found['score']:.4f}"
    return f"{found['label']}  {found['score']:.4f}"
