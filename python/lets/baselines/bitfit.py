"""BitFit: every bias of the layers, LayerNorms' included, and nothing else."""

from __future__ import annotations

from typing import Any

from lets.baselines.base import SystemResult, SystemRun, own_pass_costs
from lets.baselines.ordinary import train_part
from lets.shape import EncoderShape
from lets.weights import layer_modules


def bitfit(run: SystemRun) -> SystemResult:
    def prepare(model: Any) -> None:
        for name, parameter in layer_modules(model.base_model).named_parameters():
            parameter.requires_grad_(name.endswith("bias"))

    shape, seq_len = run.inputs.encoder.shape, run.inputs.config.max_seq_length
    costs = own_pass_costs(shape, seq_len, bitfit_params(shape))
    return train_part(run, "bitfit", prepare, run.inputs.config.light, costs)


def bitfit_params(shape: EncoderShape) -> int:
    """b_Q, b_K, b_V, b_O, b_1, b_2 and two LayerNorms' biases in every layer."""
    return shape.num_layers * (7 * shape.hidden_size + shape.intermediate_size)
