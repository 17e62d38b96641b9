"""Diff pruning (Guo et al., 2021): gates choose where the weights change, then the rest is trained.

While the gates are trained every weight has two trainable numbers, its change and its gate: twice
the parameters of full fine-tuning, as `details.trained_params` tells.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from lets.baselines.base import Costs, Sizes, SystemResult, SystemRun, own_pass_costs
from lets.baselines.gates import add_gates, fix_largest, gated_changes
from lets.baselines.ordinary import classifier_result, count_trained, new_frozen, train_model
from lets.nnz import kept_weights
from lets.shape import layer_parameters

# Of the mean open gate: the paper's 1.25e-7 for each of BERT-large's 334 million weights.
_STRENGTH = 40.0
_GATE_RATE = 0.1


def diff_pruning(run: SystemRun) -> SystemResult:
    return _train(run, "diff-pruning", structured=False)


def structured_diff_pruning(run: SystemRun) -> SystemResult:
    """With a gate for each matrix and vector as a whole."""
    return _train(run, "diff-pruning-structured", structured=True)


def _train(run: SystemRun, name: str, structured: bool) -> SystemResult:
    sizes, config = Sizes.of(run), run.inputs.config
    model = new_frozen(run, name, lambda model: add_gates(model, structured))
    trained = count_trained(model)
    gates = dict(gated_changes(model))
    count = sum(gate.change.numel() for gate in gates.values())

    def penalty() -> torch.Tensor:
        opened = torch.stack([gate.expected_open() for gate in gates.values()])
        return _STRENGTH / count * opened.sum()

    settings = replace(config.full, weight_decay=0.0)
    searched = train_model(
        run, f"{name}-gates", model, settings, gate_rate=_GATE_RATE, penalty=penalty
    )
    kept = kept_weights(sizes.density, count)
    fix_largest(model, kept)
    inputs = {"kept": kept, "gates": searched.key}
    tuned = train_model(run, name, model, settings, inputs)
    seconds = {f"{name}-gates": searched.seconds, name: tuned.seconds}
    details = {**trained, "kept": kept, "gates_history": searched.history}
    return classifier_result(run, model, tuned, diff_pruning_costs(sizes), seconds, details)


def diff_pruning_costs(sizes: Sizes) -> Costs:
    shape = sizes.shape
    count = shape.num_layers * layer_parameters(shape.hidden_size, shape.intermediate_size)
    kept = kept_weights(sizes.density, count)
    return own_pass_costs(sizes, kept, mask=kept)


structured_diff_pruning_costs = diff_pruning_costs
