"""Freeze bottom-k: embeddings and the k bottom layers are shared, all above them are trained."""

from __future__ import annotations

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


def freeze(run: SystemRun, number: int) -> SystemResult:
    costs = freeze_costs(Sizes.of(run), number)

    def prepare(model: Any) -> None:
        layer_modules(model.base_model)[number:].requires_grad_(True)

    return train_part(run, f"freeze-{number}", prepare, run.inputs.config.full, costs)


def freeze_costs(sizes: Sizes, number: int) -> Costs:
    check_number(f"freeze-{number}", number, 0, sizes.shape.num_layers)
    own = sizes.shape.num_layers - number
    load, overhead = stacked_load(sizes.shape, sizes.seq_len, number, own)
    return same_costs(SystemCost(load, overhead))
