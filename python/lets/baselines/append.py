"""Append top-k: the whole encoder is shared, copies of its last k layers are trained on top."""

from __future__ import annotations

import copy
from typing import Any

from lets.baselines.base import SystemCost, SystemResult, SystemRun, same_costs
from lets.baselines.ordinary import train_part
from lets.metrics import stacked_load
from lets.shape import EncoderShape
from lets.weights import layer_modules


def append(run: SystemRun, number: int) -> SystemResult:
    def prepare(model: Any) -> None:
        layers = layer_modules(model.base_model)
        new = [copy.deepcopy(layer).requires_grad_(True) for layer in layers[-number:]]
        layers.extend(new)

    shape, seq_len = run.inputs.encoder.shape, run.inputs.config.max_seq_length
    costs = same_costs(append_cost(shape, seq_len, number))
    return train_part(run, f"append-{number}", prepare, run.inputs.config.full, costs)


def append_cost(shape: EncoderShape, seq_len: int, number: int) -> SystemCost:
    load, overhead = stacked_load(shape, seq_len, shape.num_layers, number)
    return SystemCost(load, overhead)
