"""cls_tail: what follows attention, for the few rows that the pooling reads, of several tasks."""

from __future__ import annotations

import torch
from torch import Tensor

from lets_ext._cls_tail_bwd import backward, setup
from lets_ext._devices import check_devices
from lets_ext._load import LOADED, require_ops
from lets_ext.layout import Delta


def cls_tail(
    ctx: Tensor,
    residual: Tensor,
    *,
    out_weight: Tensor,
    out_bias: Tensor,
    attn_norm_weight: Tensor,
    attn_norm_bias: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    down_weight: Tensor,
    down_bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    out_delta: Delta | None = None,
    up_delta: Delta | None = None,
    down_delta: Delta | None = None,
    eps: float = 1e-12,
) -> Tensor:
    """Finish a post-LayerNorm layer; the frozen weights are read once for the rows of all tasks.

    h = LN(residual + ctx W_Oᵀ + b_O), out = LN(h + gelu(h W_1ᵀ + b_1) W_2ᵀ + b_2), the exact gelu
    (METHOD section 2, n4 to n6). Every weight is frozen and has an optional sparse delta per task.
    Differentiable in all but the weights. A leading 1 means that all tasks share the tensor.

    Args:
        ctx: Contexts, heads concatenated. [T, M, H]
        residual: Input of the layer. [1|T, M, H]
        out_weight, up_weight, down_weight: Frozen, as in nn.Linear. [H, H], [F, H], [H, F]
        out_bias, down_bias: [1|T, H]
        up_bias: [1|T, F]
        attn_norm_weight, attn_norm_bias, norm_weight, norm_bias: Both layer norms. [1|T, H]
        out_delta, up_delta, down_delta: Sparse deltas of the T tasks, of the weights' shapes.
        eps: Of both layer norms.

    Returns:
        [T, M, H]
    """
    require_ops()
    weights = {"out": (out_weight, out_delta), "up": (up_weight, up_delta)}
    weights["down"] = (down_weight, down_delta)
    for name, (weight, _) in weights.items():
        if weight.requires_grad:
            raise ValueError(
                f"cls_tail: {name}_weight must be frozen, got requires_grad=True; train its delta"
            )
    check_deltas("cls_tail", ctx, weights)
    return torch.ops.lets_ext.cls_tail.default(
        ctx,
        residual,
        out_weight,
        up_weight,
        down_weight,
        out_bias,
        attn_norm_weight,
        attn_norm_bias,
        up_bias,
        down_bias,
        norm_weight,
        norm_bias,
        *_parts(out_delta),
        *_parts(up_delta),
        *_parts(down_delta),
        eps,
    )


def cls_tail_ref(
    ctx: Tensor,
    residual: Tensor,
    *,
    out_weight: Tensor,
    out_bias: Tensor,
    attn_norm_weight: Tensor,
    attn_norm_bias: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    down_weight: Tensor,
    down_bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    out_delta: Delta | None = None,
    up_delta: Delta | None = None,
    down_delta: Delta | None = None,
    eps: float = 1e-12,
) -> Tensor:
    """`cls_tail` in plain torch."""

    def linear(x: Tensor, weight: Tensor, bias: Tensor, delta: Delta | None) -> Tensor:
        merged = weight if delta is None else weight + delta.to_dense()
        return x @ merged.mT + bias[:, None]

    def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        normed = torch.nn.functional.layer_norm(x, x.shape[-1:], eps=eps)
        return normed * weight[:, None] + bias[:, None]

    h = residual + linear(ctx, out_weight, out_bias, out_delta)
    h = norm(h, attn_norm_weight, attn_norm_bias)
    inner = torch.nn.functional.gelu(linear(h, up_weight, up_bias, up_delta))
    return norm(h + linear(inner, down_weight, down_bias, down_delta), norm_weight, norm_bias)


def check_deltas(op: str, ctx: Tensor, weights: dict[str, tuple[Tensor, Delta | None]]) -> None:
    """Raise ValueError unless every delta has the tasks of ctx and the shape of its weight."""
    for name, (weight, delta) in weights.items():
        if delta is None:
            continue
        layout, tasks, shape = delta.layout, ctx.shape[0], list(weight.shape)
        if (layout.num_tasks, layout.out_features, layout.in_features) != (tasks, *shape):
            raise ValueError(
                f"{op}: {name}_delta must be {tasks} x {shape}, got "
                f"{layout.num_tasks} x {[layout.out_features, layout.in_features]}"
            )


def _parts(delta: Delta | None) -> tuple[Tensor | None, ...]:
    if delta is None:
        return (None,) * 6
    layout = delta.layout
    transposed = (layout.ccol_indices, layout.row_indices, layout.permutation)
    return delta.values, layout.crow_indices, layout.col_indices, *transposed


def _fake(ctx, *others):
    check_devices("cls_tail", ctx, *others)
    return torch.empty_like(ctx, memory_format=torch.contiguous_format)


if LOADED:
    torch.library.register_fake("lets_ext::cls_tail", _fake)
    torch.library.register_autograd("lets_ext::cls_tail", backward, setup_context=setup)
