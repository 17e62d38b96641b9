"""Freeze bottom-k: embeddings and the k bottom layers are shared, all above them are trained."""

from __future__ import annotations

from typing import Any

from lets.baselines.base import SystemCost, SystemResult, SystemRun, same_costs
from lets.baselines.ordinary import train_part
from lets.metrics import stacked_load
from lets.shape import EncoderShape
from lets.weights import layer_modules


def freeze(run: SystemRun, number: int) -> SystemResult:
    def prepare(model: Any) -> None:
        layer_modules(model.base_model)[number:].requires_grad_(True)

    shape, seq_len = run.inputs.encoder.shape, run.inputs.config.max_seq_length
    costs = same_costs(freeze_cost(shape, seq_len, number))
    return train_part(run, f"freeze-{number}", prepare, run.inputs.config.full, costs)


def freeze_cost(shape: EncoderShape, seq_len: int, number: int) -> SystemCost:
    load, overhead = stacked_load(shape, seq_len, number, shape.num_layers - number)
    return SystemCost(load, overhead)
