"""Freeze bottom-k: embeddings and the k bottom layers are shared, all above them are trained."""

from __future__ import annotations

from typing import Any

from lets.baselines.base import Costs, Sizes, SystemCost, SystemResult, SystemRun, same_costs
from lets.baselines.ordinary import train_part
from lets.metrics import stacked_load
from lets.weights import layer_modules


def freeze(run: SystemRun, number: int) -> SystemResult:
    def prepare(model: Any) -> None:
        layer_modules(model.base_model)[number:].requires_grad_(True)

    costs = freeze_costs(Sizes.of(run), number)
    return train_part(run, f"freeze-{number}", prepare, run.inputs.config.full, costs)


def freeze_costs(sizes: Sizes, number: int) -> Costs:
    own = sizes.shape.num_layers - number
    load, overhead = stacked_load(sizes.shape, sizes.seq_len, number, own)
    return same_costs(SystemCost(load, overhead))
