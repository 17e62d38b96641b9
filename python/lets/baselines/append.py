"""Append top-k: the whole encoder is shared, copies of its last k layers are trained on top."""

from __future__ import annotations

import copy
from typing import Any

from lets.baselines.base import (
    Costs,
    Sizes,
    SystemCost,
    SystemResult,
    SystemRun,
    check_number,
    same_costs,
)
from lets.baselines.ordinary import train_part
from lets.metrics import stacked_load
from lets.weights import layer_modules


def append(run: SystemRun, number: int) -> SystemResult:
    costs = append_costs(Sizes.of(run), number)

    def prepare(model: Any) -> None:
        layers = layer_modules(model.base_model)
        new = [copy.deepcopy(layer).requires_grad_(True) for layer in layers[-number:]]
        layers.extend(new)

    return train_part(run, f"append-{number}", prepare, run.inputs.config.full, costs)


def append_costs(sizes: Sizes, number: int) -> Costs:
    check_number(f"append-{number}", number, 1, sizes.shape.num_layers)
    load, overhead = stacked_load(sizes.shape, sizes.seq_len, sizes.shape.num_layers, number)
    return same_costs(SystemCost(load, overhead))
