"""cls_attention: one query per sequence; keys and values of a task are never formed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lets_ext._cls_attention_bwd import backward, setup
from lets_ext._devices import check_devices
from lets_ext._load import LOADED, require_ops
from lets_ext.layout import Delta


def cls_attention(
    q: Tensor,
    x: Tensor,
    *,
    num_heads: int,
    key: Tensor | None = None,
    value: Tensor | None = None,
    key_weight: Tensor | None = None,
    value_weight: Tensor | None = None,
    key_delta: Delta | None = None,
    value_delta: Delta | None = None,
    value_bias: Tensor | None = None,
    key_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attend from one query per sequence, head and task (exact algebra beyond METHOD section 4).

    With z_h = (W_K,h + D_K,h)ᵀ q_h: scores_h = scale (q_h · key_h + z_h · x) + attn_bias_h,
    p = softmax over the attended keys, ctx_h = p · value_h + (W_V,h + D_V,h)(p · x) + value_bias_h.
    Cached key and value without weights are the case of a frozen input, weights without cached
    products that of a task's own input. Differentiable in all but mask and frozen weights.

    Args:
        q: Complete queries, own delta and bias added. [T, B, H]
        x: Input of the layer; a leading 1 is shared by all tasks. [1|T, B, S, H]
        num_heads: A, divides H.
        key, value: Cached products of the frozen weights. [1|T, B, S, H]
        key_weight, value_weight: Frozen weights, as in nn.Linear. [H, H]
        key_delta, value_delta: Sparse deltas of the T tasks. T x [H, H]
        value_bias: [T, H]
        key_mask: True = attend; where a sequence attends to nothing, all probabilities are zero.
            bool [B, S]
        attn_bias: Added to the scores of every sequence. [A, S]
        scale: Factor of the scores, not 0; 1 / sqrt(H / A) by default.

    Returns:
        [T, B, H]
    """
    require_ops()
    for name, weight in (("key_weight", key_weight), ("value_weight", value_weight)):
        if weight is not None and weight.requires_grad:
            raise ValueError(
                f"cls_attention: {name} must be frozen, got requires_grad=True; train its delta"
            )
    if q.dim() != 3:
        raise ValueError(f"cls_attention: q must have shape [T, B, H], got {list(q.shape)}")
    if scale == 0:
        raise ValueError("cls_attention: scale must not be 0, got 0")
    tensors = (
        q,
        x,
        key,
        value,
        key_weight,
        value_weight,
        *_parts("key_delta", key_delta, q),
        *_parts("value_delta", value_delta, q),
        value_bias,
        key_mask,
        attn_bias,
    )
    # Without a gradient to come, the rows that backward reads are not written.
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    factor = _default_scale(q, num_heads) if scale is None else scale
    return torch.ops.lets_ext.cls_attention.default(*tensors, num_heads, factor, save)[0]


def cls_attention_ref(
    q: Tensor,
    x: Tensor,
    *,
    num_heads: int,
    key: Tensor | None = None,
    value: Tensor | None = None,
    key_weight: Tensor | None = None,
    value_weight: Tensor | None = None,
    key_delta: Delta | None = None,
    value_delta: Delta | None = None,
    value_bias: Tensor | None = None,
    key_mask: Tensor | None = None,
    attn_bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """`cls_attention` in plain torch: forms the keys and values of every task."""
    (num_tasks, batch, hidden), length = q.shape, x.shape[2]

    def project(cached: Tensor | None, weight: Tensor | None, delta: Delta | None) -> Tensor:
        out = x.new_zeros(()) if cached is None else cached
        if weight is not None:
            out = out + x @ weight.mT
        if delta is not None:
            out = out + x @ delta.to_dense().mT[:, None]
        heads = (num_tasks, batch, length, num_heads, hidden // num_heads)
        return out.expand(num_tasks, batch, length, hidden).view(heads)

    keys, values = project(key, key_weight, key_delta), project(value, value_weight, value_delta)
    queries = q.view(num_tasks, batch, num_heads, hidden // num_heads)
    scores = torch.einsum("tbad,tbsad->tbas", queries, keys)
    scores = scores * (_default_scale(q, num_heads) if scale is None else scale)
    if attn_bias is not None:
        scores = scores + attn_bias
    if key_mask is not None:
        scores = scores.masked_fill(~key_mask[None, :, None], -math.inf)
    probs = scores.softmax(-1)
    if key_mask is not None:
        probs = torch.where(key_mask.any(-1)[None, :, None, None], probs, 0.0)
    ctx = torch.einsum("tbas,tbsad->tbad", probs, values).reshape(num_tasks, batch, hidden)
    return ctx if value_bias is None else ctx + value_bias[:, None]


def _default_scale(q: Tensor, num_heads: int) -> float:
    return 1.0 / math.sqrt(q.shape[-1] / max(num_heads, 1))


def _parts(name: str, delta: Delta | None, q: Tensor) -> tuple[Tensor | None, ...]:
    if delta is None:
        return None, None, None
    layout, (num_tasks, _, hidden) = delta.layout, q.shape
    if (layout.num_tasks, layout.out_features, layout.in_features) != (num_tasks, hidden, hidden):
        raise ValueError(
            f"cls_attention: {name} must be {num_tasks} x [{hidden}, {hidden}], got "
            f"{layout.num_tasks} x [{layout.out_features}, {layout.in_features}]"
        )
    return layout.crow_indices, layout.col_indices, delta.values


def _fake(
    q, x, key, value, key_weight, value_weight, key_crow, key_col, key_values, value_crow,
    value_col, value_values, value_bias, key_mask, attn_bias, num_heads, scale, save,
):  # fmt: skip
    check_devices(
        "cls_attention", q, x, key, value, key_weight, value_weight, key_crow, key_col, key_values,
        value_crow, value_col, value_values, value_bias, key_mask, attn_bias,
    )  # fmt: skip
    num_tasks, batch, hidden = q.shape
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32

    def rows(needed: bool, features: int) -> Tensor:
        shape = (batch, num_tasks, num_heads, features) if needed and save else (0,)
        return q.new_empty(shape, dtype=wide)

    return (
        torch.empty_like(q, memory_format=torch.contiguous_format),
        rows(True, x.shape[2]),
        rows(key_weight is not None or key_values is not None, hidden),
        rows(value_weight is not None or value_values is not None, hidden),
    )


if LOADED:
    torch.library.register_fake("lets_ext::cls_attention", _fake)
    torch.library.register_autograd("lets_ext::cls_attention", backward, setup_context=setup)
