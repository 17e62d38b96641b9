"""What happens in a layer of each case: the one place, for frozen encoder, training and engine.

T-stacked: a leading T (or a 1 that all tasks share) on everything. Dense products read the frozen
weights once for all tasks; what is a task's own goes through the ops of `lets_ext`. Differentiable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lets.products import is_packed, linear, linear_gelu, pack_like, plain
from lets.weights import LayerWeights
from lets_ext import (
    Delta,
    DeltaLayout,
    add_layer_norm,
    bias_gelu,
    cls_attention,
    cls_tail,
    cls_tail_layers,
    delta_linear,
    delta_qkv,
)

_TAIL = ("out", "up", "down")
# Vectors after the attention; what a task owns of them is complete, not a change.
TAIL_VECTORS = (
    "out_bias", "up_bias", "down_bias",
    "attn_norm_weight", "attn_norm_bias", "norm_weight", "norm_bias",
)  # fmt: skip


@dataclass(frozen=True)
class FrozenLayer:
    """A layer of the encoder, and what its tensors do not tell.

    Args:
        position_bias: Added to the attention scores of the longest input. [A, S, S]
        plain_qkv_weight: Beside a packed one, for those who read parts of it. [3H, H]
    """

    weights: LayerWeights
    num_heads: int
    eps: float
    position_bias: Tensor | None = None
    plain_qkv_weight: Tensor | None = None

    @property
    def hidden_size(self) -> int:
        return self.weights.out_weight.shape[0]

    def score_bias(self, length: int) -> Tensor | None:
        """What is added to the attention scores of S tokens. [A, S, S]"""
        bias = self.position_bias
        return None if bias is None else bias[:, :length, :length]

    def cls_score_bias(self, length: int) -> Tensor | None:
        """The same for the query of the [CLS] row. [A, S]"""
        bias = self.position_bias
        return None if bias is None else bias[:, 0, :length]

    def projections(self) -> Tensor:
        """W_Q, W_K and W_V, plain. [3H, H]"""
        beside = self.plain_qkv_weight
        return plain(self.weights.qkv_weight) if beside is None else beside

    def with_projections(self, whole: bool, parts: bool) -> FrozenLayer:
        """A packed layer with W_Q, W_K, W_V as they are read: whole (packed), in parts, or both."""
        held: Any = self.weights.qkv_weight
        beside, form = self.plain_qkv_weight, self.weights.out_weight
        if not is_packed(form):
            return self
        if not parts:
            held, beside = pack_like(held, form), None
        else:
            unpacked = plain(held) if beside is None else beside
            held, beside = (pack_like(held, form), unpacked) if whole else (unpacked, None)
        weights = replace(self.weights, qkv_weight=held)
        return replace(self, weights=weights, plain_qkv_weight=beside)

    def own(self) -> OwnLayer:
        """The layer of a task that changes nothing."""
        w = self.weights
        vectors = {name: getattr(w, name)[None] for name in TAIL_VECTORS}
        return OwnLayer(**vectors)


@dataclass(frozen=True)
class OwnLayer:
    """What T tasks own of a layer: deltas of the matrices, complete vectors of the tail.

    Args:
        qkv: Delta of the stacked projections. T x [3H, H]
        query, key, value: Its parts, for [CLS]-only layers. T x [H, H]
        query_bias_delta, value_bias_delta: Change of b_Q and b_V (softmax drops b_K's). [T, H]
        qkv_bias_delta: Both, with zeros for the keys. [T, 3H]
        out_bias, down_bias, attn_norm_*, norm_*: The frozen vector plus the task's change. [1|T, H]
        up_bias: [1|T, F]
    """

    out_bias: Tensor
    up_bias: Tensor
    down_bias: Tensor
    attn_norm_weight: Tensor
    attn_norm_bias: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    qkv: Delta | None = None
    query: Delta | None = None
    key: Delta | None = None
    value: Delta | None = None
    out: Delta | None = None
    up: Delta | None = None
    down: Delta | None = None
    query_bias_delta: Tensor | None = None
    value_bias_delta: Tensor | None = None
    qkv_bias_delta: Tensor | None = None

    @classmethod
    def stack(cls, parts: Sequence[OwnLayer]) -> OwnLayer:
        """The tasks of several layers, in order; each names the same deltas."""
        stacked: dict[str, Any] = {}
        for name in (f.name for f in fields(cls)):
            values = [getattr(part, name) for part in parts]
            if values[0] is None:
                stacked[name] = None
            elif isinstance(values[0], Delta):
                layout = DeltaLayout.stack([delta.layout for delta in values])
                stacked[name] = Delta(layout, torch.cat([delta.values for delta in values]))
            else:
                stacked[name] = torch.cat(values)
        return cls(**stacked)

    def tasks(self, begin: int, end: int) -> OwnLayer:
        """The tasks [begin, end) of a stack; values, columns and vectors are views."""

        def cut(value: Any) -> Any:
            return value.tasks(begin, end) if isinstance(value, Delta) else value[begin:end]

        values = {f.name: getattr(self, f.name) for f in fields(self)}
        parts: dict[str, Any] = {n: None if v is None else cut(v) for n, v in values.items()}
        return OwnLayer(**parts)

    def forward_only(self) -> OwnLayer:
        """The same without what only backward reads."""
        deltas: dict[str, Any] = {
            f.name: Delta(value.layout.forward_only(), value.values)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Delta)
        }
        return replace(self, **deltas)


def project_qkv(x: Tensor, layer: FrozenLayer) -> Tensor:
    """The frozen product of the three projections. x [..., H] -> [..., 3H]"""
    return linear(x, layer.weights.qkv_weight, layer.weights.qkv_bias)


def project_query(row: Tensor, layer: FrozenLayer) -> Tensor:
    """The frozen query alone. row [..., H] -> [..., H]"""
    return F.linear(
        row, layer.projections()[: layer.hidden_size], layer.weights.qkv_bias[: layer.hidden_size]
    )


def project_key_value(x: Tensor, layer: FrozenLayer) -> Tensor:
    """The frozen keys and values alone. x [..., H] -> [..., 2H]"""
    hidden = layer.hidden_size
    return F.linear(x, layer.projections()[hidden:], layer.weights.qkv_bias[hidden:])


def full_layer(
    qkv: Tensor, x: Tensor, key_mask: Tensor | None, layer: FrozenLayer, own: OwnLayer
) -> Tensor:
    """All rows of a task's layer; cases `p-all` (cached qkv) and `f-all`, and the search's mixture.

    Args:
        qkv: Frozen product of x, shared by all tasks or not. [1|T, B, S, 3H]
        x: Input of the layer. [1|T, B, S, H]
        key_mask: True = attend. bool [B, S]

    Returns:
        [T, B, S, H]
    """
    ctx = attention(own_qkv(qkv, x, own), key_mask, layer)
    return full_tail(ctx, x, layer, own)


def cached_cls_layer(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    x: Tensor,
    key_mask: Tensor | None,
    layer: FrozenLayer,
    own: OwnLayer,
    row: Tensor | None = None,
) -> Tensor:
    """The [CLS] row of a layer on the frozen encoder's input: cases `p-cls` and `s-cls`.

    Args:
        query: Frozen query of the [CLS] rows. [1|T, B, H]
        key, value: Frozen keys and values. [1, B, S, H]
        x: Input of the layer. [1, B, S, H]
        row: [CLS] rows of the tasks' own input, in place of those of x. [T, B, H]

    Returns:
        [T, B, H]
    """
    row = x[:, :, 0] if row is None else row
    ctx = cached_context(own_query(query, row, own), key, value, x, key_mask, layer, own)
    return row_tail(ctx, row, layer, own)


def cls_layer(x: Tensor, key_mask: Tensor | None, layer: FrozenLayer, own: OwnLayer) -> Tensor:
    """The [CLS] row of a layer on the tasks' own x: case `f-cls`. [T, B, S, H] -> [T, B, H]"""
    row = x[:, :, 0]
    q = own_query(project_query(row, layer), row, own)
    return row_tail(own_context(q, x, key_mask, layer, own), row, layer, own)


def trained_cls_layer(
    x: Tensor,
    key_mask: Tensor | None,
    layer: FrozenLayer,
    own: OwnLayer,
    row: Tensor | None = None,
) -> Tensor:
    """`cls_layer` without deltas, differentiable in the layer's matrices, which are being trained.

    The fused ops take frozen matrices alone, so keys and values are formed. [1, B, S, H] ->
    [1, B, H]

    Args:
        row: See `cached_cls_layer`.
    """
    hidden, length = layer.hidden_size, x.shape[2]
    row = x[:, :, :1] if row is None else row[:, :, None]
    key, value = (_heads(part, layer) for part in project_key_value(x, layer).split(hidden, -1))
    query = _heads(project_query(row, layer), layer)
    mask = None if key_mask is None else key_mask[None, :, None, None]
    bias = layer.cls_score_bias(length)
    if bias is not None:
        bias = bias[:, None]
        mask = bias if mask is None else torch.where(mask, bias, -torch.inf)
    ctx = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return full_tail(ctx.transpose(2, 3).flatten(3), row, layer, own)[:, :, 0]


def _heads(x: Tensor, layer: FrozenLayer) -> Tensor:
    """[T, B, S, H] -> [T, B, A, S, H / A]"""
    return x.unflatten(-1, (layer.num_heads, -1)).transpose(2, 3)


# --- the parts of a layer; a plan's steps are these ---


def own_qkv(qkv: Tensor, x: Tensor, own: OwnLayer) -> Tensor:
    """The tasks' Q, K, V. qkv [1|T, B, S, 3H], x [1|T, B, S, H] -> [T, B, S, 3H]"""
    if own.qkv is None:
        return qkv
    products = delta_qkv(qkv.flatten(1, 2), x.flatten(1, 2), own.qkv, own.qkv_bias_delta)
    return products.unflatten(1, x.shape[1:3])


def attention(qkv: Tensor, key_mask: Tensor | None, layer: FrozenLayer) -> Tensor:
    """Scaled dot-product attention. qkv [T, B, S, 3H] -> [T, B, S, H]"""
    tasks, batch, length, width = qkv.shape
    heads = qkv.reshape(tasks * batch, length, 3, layer.num_heads, -1)
    q, k, v = heads.permute(2, 0, 3, 1, 4)
    mask = None if key_mask is None else key_mask.repeat(tasks, 1)[:, None, None]
    bias = layer.score_bias(length)
    if bias is not None:
        mask = bias[None] if mask is None else torch.where(mask, bias, -torch.inf)
    ctx = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return ctx.transpose(1, 2).reshape(tasks, batch, length, width // 3)


def full_tail(ctx: Tensor, x: Tensor, layer: FrozenLayer, own: OwnLayer) -> Tensor:
    """Nodes n4 to n6 over all rows. ctx [T, B, S, H], x [1|T, B, S, H] -> [T, B, S, H]"""
    weights, rows = layer.weights, x.flatten(1, 2)
    projected = _own_linear(ctx.flatten(1, 2), weights.out_weight, own.out)
    h = add_layer_norm(
        projected, rows, own.attn_norm_weight, own.attn_norm_bias, own.out_bias, layer.eps
    )
    if own.up is None:
        inner = linear_gelu(h, weights.up_weight, own.up_bias)
    else:
        inner = bias_gelu(_own_linear(h, weights.up_weight, own.up), own.up_bias)
    outer = _own_linear(inner, weights.down_weight, own.down)
    out = add_layer_norm(outer, h, own.norm_weight, own.norm_bias, own.down_bias, layer.eps)
    return out.unflatten(1, x.shape[1:3])


def own_query(query: Tensor, row: Tensor, own: OwnLayer) -> Tensor:
    """The tasks' queries of the [CLS] rows. query, row [1|T, B, H] -> [T, B, H]"""
    if own.query is None:
        return query
    return delta_linear(query, row, own.query, own.query_bias_delta)


def cached_context(
    q: Tensor,
    key: Tensor,
    value: Tensor,
    x: Tensor,
    key_mask: Tensor | None,
    layer: FrozenLayer,
    own: OwnLayer,
) -> Tensor:
    """The [CLS] row's context on cached products. q [T, B, H], key, value, x [1, B, S, H]"""
    return cls_attention(
        q,
        x,
        num_heads=layer.num_heads,
        key=key,
        value=value,
        key_delta=own.key,
        value_delta=own.value,
        value_bias=own.value_bias_delta,
        key_mask=key_mask,
        attn_bias=layer.cls_score_bias(x.shape[2]),
    )


def own_context(
    q: Tensor, x: Tensor, key_mask: Tensor | None, layer: FrozenLayer, own: OwnLayer
) -> Tensor:
    """The same without any key or value. q [T, B, H], x [1|T, B, S, H] -> [T, B, H]"""
    weights, hidden = layer.weights, layer.hidden_size
    _, key_weight, value_weight = layer.projections().split(hidden)
    bias = weights.qkv_bias[2 * hidden :].expand(q.shape[0], hidden)
    if own.value_bias_delta is not None:
        bias = bias + own.value_bias_delta
    # Softmax is blind to the key bias: it adds the same to all scores of a query's head.
    return cls_attention(
        q,
        x,
        num_heads=layer.num_heads,
        key_weight=key_weight,
        value_weight=value_weight,
        key_delta=own.key,
        value_delta=own.value,
        value_bias=bias,
        key_mask=key_mask,
        attn_bias=layer.cls_score_bias(x.shape[2]),
    )


def row_tail(ctx: Tensor, row: Tensor, layer: FrozenLayer, own: OwnLayer) -> Tensor:
    """Nodes n4 to n6 over the [CLS] rows. ctx [T, B, H], row [1|T, B, H] -> [T, B, H]"""
    if is_packed(layer.weights.out_weight):
        return full_tail(ctx[:, :, None], row[:, :, None], layer, own)[:, :, 0]
    return cls_tail(ctx, row, **_tail_arguments(layer, own), eps=layer.eps)


def row_tails(
    ctx: Sequence[Tensor],
    row: Sequence[Tensor],
    layers: Sequence[FrozenLayer],
    own: Sequence[OwnLayer],
) -> list[Tensor]:
    """`row_tail` of several layers that do not read each other, in one call; for answering only."""
    parts = [
        {"ctx": c, "residual": r, **_tail_arguments(layer, each)}
        for c, r, layer, each in zip(ctx, row, layers, own, strict=True)
    ]
    return cls_tail_layers(parts, eps=layers[0].eps)


def _tail_arguments(layer: FrozenLayer, own: OwnLayer) -> dict[str, Any]:
    """Frozen weights, and what the tasks own, as `cls_tail` takes them."""
    weights = {f"{name}_weight": getattr(layer.weights, f"{name}_weight") for name in _TAIL}
    deltas = {f"{name}_delta": getattr(own, name) for name in _TAIL}
    return {**weights, **deltas, **{name: getattr(own, name) for name in TAIL_VECTORS}}


def _own_linear(x: Tensor, weight: Tensor, delta: Delta | None) -> Tensor:
    product = linear(x, weight)
    return product if delta is None else delta_linear(product, x, delta)
