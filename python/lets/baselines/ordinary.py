"""Systems on the ordinary architecture: a classifier of transformers of which a part is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from lets.baselines.base import SystemCost, SystemResult, SystemRun
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


def train_part(
    run: SystemRun,
    name: str,
    prepare: Callable[[Any], nn.Module | None],
    settings: FullConfig,
    costs: Mapping[str, SystemCost],
) -> SystemResult:
    """Train pooler, classifier and whatever `prepare` lets train; resumable, skipped when done.

    Args:
        prepare: Gets the classifier with everything frozen but its head, and makes the system of
            it, in place or as another module.
    """
    inputs = run.inputs
    encoder, data, config = inputs.encoder, inputs.data, inputs.config
    stage = inputs.stage(run.folder, name, {**inputs.common(), "config": asdict(settings)})
    seed_everything(config.seed, name, "model")
    model = new_classifier(encoder, data).requires_grad_(False)
    for parameter in head_parameters(model).values():
        parameter.requires_grad_()
    model = prepare(model) or model
    found = stage.result("history", "seconds")
    if found is None:
        state = train_classifier(
            model, encoder, data, config, settings,
            stage=name, checkpoints=stage.checkpoints, progress=inputs.progress,
        )  # fmt: skip
        stage.folder.mkdir(parents=True, exist_ok=True)
        save_tensors(stage.file(_WEIGHTS), trained_parameters(model))
        summary = {"history": state.history, "seconds": state.seconds}
        found = stage.complete(summary, [_WEIGHTS])
    else:
        copy_into(trained_parameters(model), load_tensors(stage.file(_WEIGHTS)))
    model.eval()
    return SystemResult(
        forward=torch.no_grad()(forward_of(model, encoder, config.max_seq_length)),
        history=found["history"],
        costs=costs,
        seconds={name: found["seconds"]},
        details=count_trained(model),
    )


def count_trained(model: nn.Module) -> dict[str, int]:
    """Trained parameters, and those of the head among them."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = sum(p.numel() for p in head_parameters(model).values() if p.requires_grad)
    return {"trained_params": trained, "head_params": head}
