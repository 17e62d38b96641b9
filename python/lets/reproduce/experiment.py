"""One experiment: a system trains on a GLUE task, and what it reached becomes a cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lets.baselines import DISTILLED, system
from lets.baselines.base import SystemResult, SystemRun
from lets.bench.report import commit, machine
from lets.config import FitConfig
from lets.cost import encoder_flops
from lets.encoder import Encoder
from lets.glue import glue_task, load_glue, load_mismatched
from lets.glue_hub import load_glue_hub
from lets.progress import Progress
from lets.reproduce.cell import NUM_TASKS, Cell, rounded
from lets.scores import REGRESSION, score
from lets.shape import EncoderShape
from lets.task_data import TaskData, TaskRow, hold_out
from lets.train.scoring import logits_of, predictions_of
from lets.train.stages import RunInputs
from lets_ext import env

_SLICE_SHARE, _SLICE_ROWS = 0.1, 500


@dataclass(frozen=True)
class Experiment:
    """A task's rows: to learn from, to choose the checkpoint on, and to report on.

    Args:
        data: Its dev rows are a slice of the training data.
        dev: Rows to report on, by the name of their cell (MNLI has two sets).
        metrics: The task's score first.
    """

    data: TaskData
    dev: Mapping[str, list[TaskRow]]
    metrics: tuple[str, ...]

    @classmethod
    def of_glue(
        cls, name: str, folder: str | Path, train_rows: int | None, files: Mapping[str, str]
    ) -> Experiment:
        """A GLUE task of which at most so many rows are learnt from.

        Args:
            folder: With GLUE's tasks as sub-folders, or `hub`.
            files: Names of `train` and `dev` inside the task's folder where they are not the usual.
        """
        key, task = glue_task(name)
        whole, dev = _load(key, folder, files)
        share = min(_SLICE_SHARE, _SLICE_ROWS / len(whole.train))
        # The same rows for every seed: seeds differ in training alone.
        train, chosen_on = hold_out(whole.train, share, 0, stratify=not task.regression)
        data = replace(whole, train=train, dev=chosen_on).subset(train_rows, None)
        metrics = (task.metric,) if task.also is None else (task.metric, task.also)
        return cls(data, dev, metrics)

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows, apart from those to report on."""
        return {"train": len(self.data.train), "slice": len(self.data.dev)}


def _load(
    key: str, folder: str | Path, files: Mapping[str, str]
) -> tuple[TaskData, dict[str, list[TaskRow]]]:
    """A task, and its dev sets: two of MNLI where both are there."""
    if folder == "hub":
        data = load_glue_hub(key)
    else:
        data = load_glue(key, folder, files.get("train"), files.get("dev"))
    if key != "mnli":
        return data, {key: data.dev}
    if folder == "hub":
        mismatched: list[TaskRow] | None = load_glue_hub(key, "validation_mismatched").dev
    else:
        mismatched = load_mismatched(folder)
    return data, {"mnli-m": data.dev} | ({"mnli-mm": mismatched} if mismatched else {})


@dataclass(frozen=True)
class Setting:
    """What the cells of a grid share.

    Args:
        encoder_name: As tables name it; the folder that it came from is nobody's business.
        recipe: Name of the recipe, for the cell.
    """

    encoder: Encoder
    encoder_name: str
    recipe: str


def run_experiment(
    experiment: Experiment,
    name: str,
    setting: Setting,
    config: FitConfig,
    folder: Path,
    search_folder: Path,
    progress: Progress | None = None,
) -> list[Cell]:
    """Train one system, resuming from what `folder` holds, and report it: a cell per dev set."""
    encoder = setting.encoder
    inputs = RunInputs(encoder, experiment.data, config, progress or Progress())
    result = system(name)(SystemRun(inputs, folder, search_folder))
    shape = replace(encoder.shape, name=setting.encoder_name)
    best = max(result.history, key=lambda entry: entry["score"])
    common: dict[str, Any] = {
        "system": name,
        "seed": config.seed,
        "recipe": setting.recipe,
        "settings": settings_read(name, config),
        "encoder": {"fingerprint": encoder.fingerprint, **asdict(shape)},
        "problem_type": experiment.data.problem_type,
        "metric": experiment.data.metric,
        "history": result.history,
        "chosen_epoch": best["epoch"],
        **_costs(result, shape, config.max_seq_length),
        "seconds": {k: round(v, 1) for k, v in result.seconds.items()},
        "policy": result.policy.to_dict() if result.policy else None,
        "details": result.details,
        "environment": _environment(encoder),
    }
    return [_scored(experiment, result, task, common) for task in experiment.dev]


# Parts of a recipe that a family of systems reads; the others read the density and both schedules.
_READ = {
    "lets": ("prune", "search", "finetune"),
    "full": ("full",),
    "freeze": ("full",),
    "append": ("full",),
}


def settings_read(name: str, config: FitConfig) -> dict[str, Any]:
    """Settings that the system's result depends on."""
    settings = config.to_dict()
    read = _READ.get(name.split("-")[0], ("prune", "full", "light"))
    if name.endswith(DISTILLED):
        read = (*read, "full")  # the teacher's
    return {k: v for k, v in settings.items() if not isinstance(v, dict) or k in read}


def _costs(result: SystemResult, shape: EncoderShape, seq_len: int) -> dict[str, Any]:
    """`ops` and `params` of a cell."""
    dense = encoder_flops(shape, seq_len)
    metrics = {name: cost.metrics(dense, shape, NUM_TASKS) for name, cost in result.costs.items()}
    ops = {
        name: {
            "new_ops_percent": m.new_percent,
            "overhead_percent": m.overhead_percent,
            "total_percent": m.total_percent,
            "max_speedup": m.max_speedup,
        }
        for name, m in metrics.items()
    }
    m = metrics["paper"]  # both accountings count the same parameters
    params = {
        "new_params": result.costs["paper"].load.new_params,
        "new_params_percent": m.new_params_percent,
        "mask_percent": m.mask_percent,
        "total_params_ratio": m.total_params_ratio,
    }
    return {"ops": ops, "params": params}


def _scored(
    experiment: Experiment, result: SystemResult, task: str, common: dict[str, Any]
) -> Cell:
    data, dev = experiment.data, experiment.dev[task]
    batch_size = common["settings"]["per_device_eval_batch_size"]
    logits = logits_of(result.forward, data, dev, batch_size)
    predicted, targets = predictions_of(logits, data.problem_type), list(data.targets(dev))
    if data.problem_type == REGRESSION:
        predicted = [rounded(value) for value in predicted]
    rows = {**experiment.rows, "dev": len(dev)}
    scores = {metric: score(metric, targets, predicted) for metric in experiment.metrics}
    return Cell(
        task=task, rows=rows, scores=scores, targets=targets, predictions=predicted, **common
    )


def _environment(encoder: Encoder) -> dict[str, Any]:
    """Machine, device, commit and versions."""
    device = torch.cuda.get_device_name(encoder.device) if encoder.device.type == "cuda" else "cpu"
    report = env.report()
    versions = {name: report[name] for name in ("lets_ext", "python", "torch", "transformers")}
    return {"machine": machine(), "device": device, "commit": commit(), **versions}
