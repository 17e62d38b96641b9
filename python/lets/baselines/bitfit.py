"""BitFit: every bias of the layers, LayerNorms' included, and nothing else."""

from __future__ import annotations

from typing import Any

from lets.baselines.base import Costs, Sizes, SystemResult, SystemRun, own_pass_costs
from lets.baselines.ordinary import train_part
from lets.weights import layer_modules


def bitfit(run: SystemRun) -> SystemResult:
    def prepare(model: Any) -> None:
        for name, parameter in layer_modules(model.base_model).named_parameters():
            parameter.requires_grad_(name.endswith("bias"))

    costs = bitfit_costs(Sizes.of(run))
    return train_part(run, "bitfit", prepare, run.inputs.config.light, costs)


def bitfit_costs(sizes: Sizes) -> Costs:
    """b_Q, b_K, b_V, b_O, b_1, b_2 and two LayerNorms' biases in every layer."""
    shape = sizes.shape
    vectors = 7 * shape.hidden_size + shape.intermediate_size
    return own_pass_costs(sizes, shape.num_layers * vectors)
