"""From command-line options to the objects that the verbs hand on: data, encoder, settings."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

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
    own: dict[str, Any] = {f.name: data for f in fields(data)}
    own |= {f.name: run for f in fields(run) if f.name not in shared} | {"policy": None}
    tasks = []
    for name, given in entries.items():
        if not isinstance(given, dict):
            raise LetsError(f"--tasks: {file}: {name} must map flags to values")
        flags = {str(key).replace("-", "_"): value for key, value in given.items()}
        if unknown := sorted(set(flags) - set(own)):
            raise LetsError(f"--tasks: {file}: {name}: unknown flag {unknown[0]!r}")
        chosen = flags.pop("policy", policy)
        of_data = {k: v for k, v in flags.items() if own[k] is data}
        of_run = {k: v for k, v in flags.items() if own[k] is run}
        output = str(Path(run.output_dir) / check_task_name(name))
        tasks.append(
            (
                replace(data, **{"task_name": name, **of_data}),
                replace(run, **of_run, output_dir=output),
                chosen,
            )
        )
    return tasks


def load_encoder(path_or_id: str, revision: str | None = None, device: str = "cpu") -> Any:
    from lets.encoder import Encoder

    return Encoder.from_pretrained(path_or_id, revision=revision, device=device)


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
