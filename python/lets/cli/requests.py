"""From command-line options to the objects that the verbs hand on: data, encoder, settings."""

from __future__ import annotations

import contextlib
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from lets.cli.config_file import read_yaml
from lets.cli.options import DataOptions, RunOptions
from lets.config import FitConfig
from lets.data import TaskData, load_task
from lets.errors import LetsError
from lets.glue import load_glue
from lets.glue_hub import load_glue_hub
from lets.pack_config import check_task_name
from lets.recipes import load_recipe


def read_data(options: DataOptions, seed: int) -> TaskData:
    """The task's rows: a user's files, a GLUE folder, or GLUE from the hub."""
    if options.glue_dir is not None:
        if options.task_name is None:
            raise LetsError("--glue-dir: needs --task-name, e.g. --task-name RTE")
        data = load_glue(
            options.task_name, options.glue_dir, options.train_file, options.validation_file
        )
    elif options.train_file is not None:
        data = load_task(
            options.task_name or "task",
            options.train_file,
            options.validation_file,
            text_column=options.text_column,
            text_pair_column=options.text_pair_column,
            label_column=options.label_column,
            problem_type=options.problem_type,
            metric=options.metric,
        )
    elif options.task_name is not None:
        data = load_glue_hub(options.task_name)
    else:
        raise LetsError("data: give --train-file, or --task-name with or without --glue-dir")
    return data.subset(options.max_train_samples, options.max_eval_samples, seed)


def read_config(options: RunOptions, task_name: str | None = None, full: bool = False) -> FitConfig:
    """The recipe with the command line's settings in place.

    Args:
        full: Epochs, batch size and rate mean those of full fine-tuning.
    """
    config = load_recipe(options.recipe, task_name)
    stage = "full" if full else "finetune"
    raw: dict[str, Any] = {"prune": {}, "search": {}, "finetune": {}, "full": {}}
    for name in ("seed", "max_seq_length", "variant"):
        if getattr(options, name) is not None:
            raw[name] = getattr(options, name)
    for name in ("num_train_epochs", "learning_rate"):
        if getattr(options, name) is not None:
            raw[stage][name] = getattr(options, name)
    if options.per_device_train_batch_size is not None:
        for part in raw.values():
            if isinstance(part, dict):
                part["per_device_train_batch_size"] = options.per_device_train_batch_size
    if options.density is not None:
        raw["prune"]["density"] = options.density
    if options.groups is not None:
        raw["search"]["groups"] = options.groups
    if options.first_order:
        raw["search"]["second_order"] = False
    if options.cache_activations:
        raw["cache_activations"] = True
    config = config.override(raw, "option")
    for setting in options.settings or []:
        config = config.override(_nested(setting), "--set")
    return config


def read_tasks(
    data: DataOptions, run: RunOptions, file: str | None, policy: str | None
) -> list[tuple[DataOptions, RunOptions, str | None]]:
    """Options of each task: the command's, and on top of them the task's own of a YAML file.

    Without a file the one task of the command.
    """
    if file is None:
        return [(data, run, policy)]
    entries = read_yaml(Path(file), "--tasks")
    shared = {"encoder", "output_dir", "overwrite", "revision", "device"}
    own = {k: v for k, v in (_flags(data) | _flags(run)).items() if v not in shared}
    own["policy"] = "policy"
    kinds = {**get_type_hints(DataOptions), **get_type_hints(RunOptions), "policy": str | None}
    of_data = {f.name for f in fields(data)}
    tasks = []
    for name, given in entries.items():
        if not isinstance(given, dict):
            raise LetsError(f"--tasks: {file}: {name} must map flags to values")
        where, flags = f"--tasks: {file}: {name}", dict[str, Any]()
        for key, value in given.items():
            field = own.get(str(key).replace("-", "_"))
            if field is None:
                raise LetsError(f"{where}: unknown flag {key!r}")
            if field in flags:
                raise LetsError(f"{where}: {key} gives a flag a second time")
            flags[field] = _as_typed(value, kinds[field], f"{where}: {key}")
        chosen = flags.pop("policy", policy)
        output = str(Path(run.output_dir) / check_task_name(name))
        tasks.append(
            (
                replace(
                    data, **{"task_name": name, **{k: v for k, v in flags.items() if k in of_data}}
                ),
                replace(
                    run, output_dir=output, **{k: v for k, v in flags.items() if k not in of_data}
                ),
                chosen,
            )
        )
    return tasks


def _flags(group: Any) -> dict[str, str]:
    """Field of each flag of a group of options, with `_` for `-`."""
    return {
        flag.lstrip("-").replace("-", "_"): f.name
        for f in fields(group)
        for flag in (f.name, *f.metadata["names"])
    }


def _as_typed(value: Any, kind: Any, where: str) -> Any:
    """A value of a YAML file as the command line reads it: 1e-3, say, is a string in YAML."""
    kinds = [get_origin(k) or k for k in get_args(kind)] or [kind]
    if type(value) in kinds and not (
        list in kinds and any(type(v) is not str for v in value or ())
    ):
        return value
    for target, sources in ((float, (int, str)), (int, (str,)), (str, (int, float))):
        if target in kinds and type(value) in sources:
            with contextlib.suppress(ValueError):
                return target(value)
    wanted = " or ".join("nothing" if k is type(None) else k.__name__ for k in kinds)
    raise LetsError(f"{where} must be of type {wanted}, got {value!r}")


def load_encoder(path_or_id: str, revision: str | None = None, device: str = "cpu") -> Any:
    from lets.encoder import Encoder

    return Encoder.from_pretrained(path_or_id, revision=revision, device=device)


def load_teacher(
    path_or_id: str, encoder: Any, data: TaskData, max_length: int
) -> tuple[TaskData, Any]:
    """A fine-tuned model, and the rows with the classes in the order of its logits."""
    from lets.convert.checkpoint import load_fine_tuned
    from lets.convert.convert import with_labels_of
    from lets.train.distill import Teacher

    tuned = load_fine_tuned(path_or_id, encoder)
    if tuned.problem_type != data.problem_type:
        raise LetsError(
            f"--teacher: {path_or_id}: must be a model of {data.problem_type}, "
            f"got {tuned.problem_type}"
        )
    return with_labels_of(tuned, data), Teacher.of(tuned.model, encoder, max_length)


def _nested(setting: str) -> dict[str, Any]:
    """ "search.cost_power=1.0" → {"search": {"cost_power": 1.0}}."""
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise LetsError(f"--set: must be <stage>.<setting>=<value>, got {setting!r}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    for name in reversed(path.strip().split(".")):
        value = {name: value}
    return value
