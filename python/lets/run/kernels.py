"""What each step of a plan calls: the functions of `lets.layers`, bound to weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lets import layers
from lets.encoder import Encoder
from lets.layers import FrozenLayer, OwnLayer
from lets.plan.step import Step
from lets.run.stacks import Stacks
from lets.tokens import TokenBatch


@dataclass(frozen=True)
class Call:
    """What all steps of one run read.

    Args:
        key_mask: True = attend; None when nothing is padded. bool [B, S]
    """

    tokens: TokenBatch
    key_mask: Tensor | None


Kernel = Callable[..., Tensor]  # (call, *inputs) -> output
_FEW = 8


def bind(step: Step, encoder: Encoder, stacks: Stacks) -> Kernel:
    """The step as a function of the call and its inputs."""
    if step.op == "embed":
        return lambda call: encoder.look_up(call.tokens)[None]
    if step.op == "row":
        return lambda call, x: x[:, :, 0]
    if step.op == "gather":
        return _gather(step.picks, encoder.device)
    if step.op == "head":
        head = stacks.head(step.tasks)
        return lambda call, pooled: head(pooled)
    if step.op == "cls_tail_layers":
        return _row_tails(step, encoder, stacks)
    assert step.layer is not None
    layer = stacks.dense_layer(step.layer, step.tasks) or encoder.layer(step.layer)
    own = stacks.own(step.layer, step.tasks) if step.tasks else layer.own()
    kernel = _KERNELS[step.op]
    return lambda call, *inputs: kernel(call, layer, own, *inputs)


def _cls_attention(
    call: Call,
    layer: FrozenLayer,
    own: OwnLayer,
    q: Tensor,
    x: Tensor,
    products: Tensor | None = None,
) -> Tensor:
    if products is None:
        return layers.own_context(q, x, call.key_mask, layer, own)
    *_, key, value = products.split(layer.hidden_size, dim=-1)
    return layers.cached_context(q, key, value, x, call.key_mask, layer, own)


def _row_attention(call: Call, layer: FrozenLayer, own: OwnLayer, qkv: Tensor) -> Tensor:
    """On complete keys and values: the [CLS] row of `attention`."""
    return layers.attention(qkv, call.key_mask, layer)[:, :, 0]


def _row_tails(step: Step, encoder: Encoder, stacks: Stacks) -> Kernel:
    frozen = [encoder.layer(layer) for layer, _ in step.parts]
    own = [
        stacks.own(layer, tasks) if tasks else encoder.layer(layer).own()
        for layer, tasks in step.parts
    ]
    return lambda call, *inputs: torch.cat(layers.row_tails(inputs[::2], inputs[1::2], frozen, own))


_KERNELS: dict[str, Callable[..., Tensor]] = {
    "project": lambda call, layer, own, x: layers.project_qkv(x, layer),
    "project_query": lambda call, layer, own, row: layers.project_query(row, layer),
    "project_key_value": lambda call, layer, own, x: layers.project_key_value(x, layer),
    "query": lambda call, layer, own, qkv: qkv[:, :, 0, : layer.hidden_size],
    "delta_qkv": lambda call, layer, own, qkv, x: layers.own_qkv(qkv, x, own),
    "delta_query": lambda call, layer, own, q, row: layers.own_query(q, row, own),
    "attention": lambda call, layer, own, qkv: layers.attention(qkv, call.key_mask, layer),
    "row_attention": _row_attention,
    "cls_attention": _cls_attention,
    "full_tail": lambda call, layer, own, ctx, x: layers.full_tail(ctx, x, layer, own),
    "cls_tail": lambda call, layer, own, ctx, row: layers.row_tail(ctx, row, layer, own),
}


def _gather(picks: Sequence[int], device: torch.device) -> Kernel:
    """Rows of values that follow one another; a view where they are neighbours in one value."""
    runs = [
        (run[0][1], run[-1][1] + 1)
        for _, group in itertools.groupby(enumerate(picks), lambda pick: pick[1] - pick[0])
        for run in [list(group)]
    ]
    if len(runs) > _FEW:  # many single rows, as before a head
        index = torch.tensor(picks, device=device)
        return lambda call, *inputs: _joined(inputs).index_select(0, index)

    def gather(call: Call, *inputs: Tensor) -> Tensor:
        parts, start = [], 0
        ends = []
        for value in inputs:
            ends.append((start, value))
            start += value.shape[0]
        for begin, end in runs:
            parts += [
                value[max(0, begin - first) : end - first]
                for first, value in ends
                if first < end and begin < first + value.shape[0]
            ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return gather


def _joined(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.cat(list(values))
