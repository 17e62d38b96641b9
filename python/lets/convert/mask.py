"""Which changes of a fine-tuned model a task pack keeps, and all the small ones (METHOD section 6).

The checkpoint is what Delta-Pruning's warm-up makes otherwise: W̃^f, converged instead of 100 steps.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lets.convert.checkpoint import FineTuned
from lets.delta import MATRICES
from lets.encoder import Encoder
from lets.layers import TAIL_VECTORS
from lets.nnz import kept_weights
from lets.policy import Policy
from lets.task_data import TaskData
from lets.train.batches import Batches
from lets.train.classifier import forward_of
from lets.train.loop import check_finite
from lets.train.masks import Masks, keep_largest
from lets.train.scoring import target_tensor, task_loss
from lets.weights import LayerWeights, read_layers

SCORES = ("gradient", "magnitude")


def largest_changes(
    encoder: Encoder,
    tuned: FineTuned,
    policy: Policy,
    density: float,
    gradients: Sequence[LayerWeights] | None,
) -> Masks:
    """W^f − W^p of the live layers where |g · W^δ|, or without gradients |W^δ|, is largest."""

    def matrices() -> Iterator[tuple[str, Tensor, Tensor]]:
        for j in policy.live_layers:
            for matrix in MATRICES:
                name = f"{matrix}_weight"
                delta = getattr(tuned.layers[j], name) - getattr(encoder.layers[j], name)
                yield f"layers.{j}.{matrix}", getattr((gradients or tuned.layers)[j], name), delta

    def score(gradient: Tensor, delta: Tensor) -> Tensor:
        return delta.abs() if gradients is None else (gradient * delta).abs()

    num_weights = sum(
        getattr(encoder.layers[j], f"{m}_weight").numel()
        for j in policy.live_layers
        for m in MATRICES
    )
    return keep_largest(matrices, score, kept_weights(density, num_weights))[0]


def changed_vectors(
    encoder: Encoder, tuned: FineTuned, layers: Sequence[int]
) -> dict[int, dict[str, Tensor]]:
    """Changes of biases and LayerNorms: a pack stores all of them (the key bias has no effect)."""
    hidden, found = encoder.shape.hidden_size, {}
    for j in layers:
        start, end = encoder.layers[j], tuned.layers[j]
        bias = end.qkv_bias - start.qkv_bias
        vectors = {f"{n}_delta": getattr(end, n) - getattr(start, n) for n in TAIL_VECTORS}
        vectors["query_bias_delta"], vectors["value_bias_delta"] = bias[:hidden], bias[2 * hidden :]
        found[j] = vectors
    return found


def weight_gradients(
    encoder: Encoder, tuned: FineTuned, data: TaskData, batches: Batches, count: int, length: int
) -> list[LayerWeights]:
    """∂L/∂W of the fine-tuned model, summed over `count` batches, in the form of its layers."""
    model = copy.deepcopy(tuned.model).requires_grad_(True)
    forward = forward_of(model, encoder, length)
    for step in range(count):
        rows = batches.at(step)
        chosen = [data.train[i] for i in rows]
        loss = task_loss(forward(data.texts(chosen)), target_tensor(data, chosen))
        check_finite("convert", "loss", loss, step, rows)
        loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():  # in place of the weights, to be read like them
            parameter.copy_(torch.zeros(()) if parameter.grad is None else parameter.grad)
    return read_layers(model.base_model, encoder.model_type)


def kept_share(encoder: Encoder, tuned: FineTuned, masks: Masks) -> float:
    """‖W^δ at the mask‖² / ‖W^f − W^p‖² over all matrices of the encoder."""
    kept = sum(float(d.values.double().square().sum()) for m in masks.values() for d in m.values())
    whole = sum(
        float((getattr(end, f"{m}_weight") - getattr(start, f"{m}_weight")).double().square().sum())
        for start, end in zip(encoder.layers, tuned.layers)
        for m in MATRICES
    )
    return kept / whole if whole else 1.0
