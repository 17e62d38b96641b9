"""Options that several verbs share: dataclasses whose fields become command-line options."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, get_type_hints

import typer


def with_options(*groups: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a verb take dataclasses: each field of a group becomes one option of the command.

    The verb's first parameters are the groups, in order; its own options follow.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(verb, include_extras=True)
        own = list(inspect.signature(verb).parameters.values())[len(groups) :]
        parameters = [_parameter(group, f) for group in groups for f in fields(group)]
        for p in own:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(p.replace(kind=kind, annotation=hints[p.name]))

        @functools.wraps(verb)
        def command(**values: Any) -> None:
            built = [
                group(**{f.name: values.pop(f.name) for f in fields(group)}) for group in groups
            ]
            verb(*built, **values)

        del command.__wrapped__  # typer would look through it
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _parameter(group: type, f: Any) -> inspect.Parameter:
    option = typer.Option(*f.metadata["names"], help=f.metadata["help"], show_default=False)
    return inspect.Parameter(
        f.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if f.default is MISSING else f.default,
        annotation=Annotated[get_type_hints(group)[f.name], option],
    )


def option(text: str, default: Any = None, *names: str) -> Any:
    """A field of a group: its help, its default (MISSING: required), other names than its own."""
    return field(default=default, metadata={"help": text, "names": names})


@dataclass(frozen=True)
class DataOptions:
    """Where a task's labelled texts come from."""

    task_name: str | None = option("Name of the task; without --train-file a GLUE task.")
    glue_dir: str | None = option("Folder with GLUE's tasks as sub-folders; none: the hub.")
    train_file: str | None = option(
        "CSV, TSV, JSONL or Parquet file.", None, "--train-file", "--data"
    )
    validation_file: str | None = option("Default: a tenth of the train file.")
    text_column: str = option(
        "Column with the text (default: text).", "text", "--text-column", "--text"
    )
    text_pair_column: str | None = option(
        "Column with the second text of a pair.", None, "--text-pair-column", "--text-pair"
    )
    label_column: str = option(
        "Column with the label (default: label).", "label", "--label-column", "--label"
    )
    problem_type: str = option("classification (default) or regression.", "classification")
    metric: str = option("accuracy, f1, matthews, pearson or spearman.", "")
    max_train_samples: int | None = option("Use at most so many training rows.")
    max_eval_samples: int | None = option("Use at most so many development rows.")


@dataclass(frozen=True)
class EngineOptions:
    """How an engine computes."""

    mode: str = option("Of the engine: auto (default), serial, stacked or streams.", "auto")
    device: str = option("cpu (default) or cuda.", "cpu")
    dtype: str = option("float32 (default), bfloat16 or float16.", "float32")
    quantization: str | None = option("int8: the engine's frozen matrices, on a CPU.")


@dataclass(frozen=True)
class ManyOptions:
    """Several tasks in one command."""

    tasks: str | None = option(
        "YAML file: flags by task, for several tasks in sub-folders of the output folder."
    )
    engine: str = option("local (default: one task after the other) or ray.", "local")
    workers: int | None = option("Of --engine ray on this machine (default: its cores).")
    ray_address: str | None = option("Of a Ray cluster (default: one on this machine).")


@dataclass(frozen=True)
class RunOptions:
    """The encoder, the recipe, and settings that take the place of the recipe's."""

    encoder: str = option("Folder or hub id of the frozen encoder.", MISSING)
    output_dir: str = option(
        "Folder for results and checkpoints.", MISSING,
        "--output-dir", "--output", "-o",
    )  # fmt: skip
    overwrite: bool = option(
        "Replace results of other settings or data in the output folder.",
        False,
        "--overwrite",
        "--overwrite-output-dir",
    )
    revision: str | None = option("Revision of a hub id.")
    device: str = option("cpu (default) or cuda.", "cpu")
    recipe: str = option("paper, small (default), demo, or a JSON file.", "small")
    seed: int | None = option("Seed of everything random.")
    max_seq_length: int | None = option("Longest text, in tokens.")
    variant: str | None = option("pc (default), c (no mask) or p (no search) of LeTS.")
    density: float | None = option("Kept share of the masked weights.")
    groups: int | None = option("Layer groups that do not read each other (LeTS-G).")
    num_train_epochs: float | None = option("Epochs of the (final) fine-tuning.")
    per_device_train_batch_size: int | None = option("Rows per training batch.")
    learning_rate: float | None = option("Rate of the (final) fine-tuning.")
    first_order: bool = option("Search without the second-order term.", False, "--first-order")
    cache_activations: bool = option(
        "Keep frozen activations between epochs and stages.", False, "--cache-activations"
    )
    settings: list[str] | None = option(  # noqa: RUF009  (a field)
        "Any setting of a recipe, e.g. search.cost_power=1.0; repeatable.", None, "--set"
    )


@dataclass(frozen=True)
class ConvertOptions(RunOptions):
    """The same, of a verb that writes a pack and nothing else."""

    output_dir: str = option(
        "Folder of the pack (default: packs/<task name>).", "", "--output-dir", "--output", "-o"
    )
