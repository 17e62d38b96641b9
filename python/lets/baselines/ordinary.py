"""Systems on the ordinary architecture: a classifier of transformers of which a part is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lets.baselines.base import Costs, SystemResult, SystemRun
from lets.config import FullConfig
from lets.train.checkpoint import load_tensors, save_tensors
from lets.train.classifier import (
    forward_of,
    head_parameters,
    new_classifier,
    train_classifier,
    trained_parameters,
)
from lets.train.loop import copy_into
from lets.train.seeds import seed_everything

_WEIGHTS = "trained.safetensors"


@dataclass(frozen=True)
class Trained:
    """What a training ended with; `key` names all that it depended on."""

    key: str
    history: list[dict[str, Any]]
    seconds: float


def train_part(
    run: SystemRun,
    name: str,
    prepare: Callable[[Any], None],
    settings: FullConfig,
    costs: Costs,
) -> SystemResult:
    """Train pooler, classifier and whatever `prepare` lets train; resumable, skipped when done.

    Args:
        prepare: Gets the classifier with everything frozen, and makes the system of it.
    """
    model = new_frozen(run, name, prepare)
    counted = count_trained(model)
    trained = train_model(run, name, model, settings)
    return classifier_result(run, model, trained, costs, {name: trained.seconds}, counted)


def new_frozen(run: SystemRun, name: str, prepare: Callable[[Any], None]) -> nn.Module:
    """A classifier of which the head is trained, and what `prepare` says."""
    seed_everything(run.inputs.config.seed, name, "model")
    data = run.inputs.data
    model = new_classifier(run.inputs.encoder, data.labels, data.problem_type)
    model.requires_grad_(False)
    prepare(model)
    for parameter in head_parameters(model).values():
        parameter.requires_grad_()
    return model


def train_model(
    run: SystemRun,
    name: str,
    model: nn.Module,
    settings: FullConfig,
    inputs: Mapping[str, Any] | None = None,
    *,
    gate_rate: float | None = None,
    penalty: Callable[[], Tensor] | None = None,
) -> Trained:
    """Train what requires gradients; the model ends as of the best score, in eval mode.

    Args:
        inputs: What the result depends on beside encoder, data and settings.
    """
    shared = run.inputs
    depends = {**shared.common(), "config": asdict(settings), **(inputs or {})}
    stage = shared.stage(run.folder / name, name, depends)
    found = stage.result("history", "seconds")
    if found is None:
        state = train_classifier(
            model, shared.encoder, shared.data, shared.config, settings,
            stage=name, gate_rate=gate_rate, penalty=penalty,
            checkpoints=stage.checkpoints, progress=shared.progress,
        )  # fmt: skip
        stage.folder.mkdir(parents=True, exist_ok=True)
        save_tensors(stage.file(_WEIGHTS), trained_parameters(model))
        summary = {"history": state.history, "seconds": state.seconds}
        found = stage.complete(summary, [_WEIGHTS])
    else:
        copy_into(trained_parameters(model), load_tensors(stage.file(_WEIGHTS)))
    model.eval()
    return Trained(stage.key, found["history"], found["seconds"])


def classifier_result(
    run: SystemRun,
    model: nn.Module,
    trained: Trained,
    costs: Costs,
    seconds: dict[str, float],
    details: dict[str, Any],
) -> SystemResult:
    forward = forward_of(model, run.inputs.encoder, run.inputs.config.max_seq_length)
    return SystemResult(torch.no_grad()(forward), trained.history, costs, seconds, None, details)


def count_trained(model: nn.Module) -> dict[str, int]:
    """Trained parameters, and those of the head among them."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = sum(p.numel() for p in head_parameters(model).values() if p.requires_grad)
    return {"trained_params": trained, "head_params": head}
