"""add_layer_norm: residual sum, bias and layer norm in one pass, with vectors per task."""

from __future__ import annotations

import torch
from torch import Tensor

from lets_ext._columns import accumulator, num_splits, sum_to
from lets_ext._devices import check_devices
from lets_ext._load import LOADED, require_ops


def add_layer_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    norm_bias: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-12,
) -> Tensor:
    """Compute ``LayerNorm(x + residual + bias) * weight + norm_bias``. Differentiable in all.

    A leading 1 means that all tasks share the tensor.

    Args:
        x: [T, N, H]
        residual: [1|T, N, H]
        weight, norm_bias: Scale and shift of the layer norm. [1|T, H]
        bias: Of the linear layer that made x. [1|T, H]
        eps: Added to the variance.

    Returns:
        [T, N, H]
    """
    require_ops()
    op = torch.ops.lets_ext.add_layer_norm.default
    return op(x, residual, weight, norm_bias, bias, eps)[0]


def add_layer_norm_ref(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    norm_bias: Tensor,
    bias: Tensor | None = None,
    eps: float = 1e-12,
) -> Tensor:
    """`add_layer_norm` in plain torch."""
    total = x + residual if bias is None else x + residual + bias[:, None]
    normed = torch.nn.functional.layer_norm(total, total.shape[-1:], eps=eps)
    return normed * weight[:, None] + norm_bias[:, None]


def _fake(x, residual, weight, norm_bias, bias, eps):
    check_devices("add_layer_norm", x, residual, weight, norm_bias, bias)
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out, *(x.new_empty(x.shape[:2], dtype=accumulator(x)) for _ in range(2))


def _fake_bwd(grad, x, residual, weight, bias, mean, rstd):
    check_devices("add_layer_norm_bwd", x, grad, residual, weight, bias, mean, rstd)
    tasks, tokens, hidden = x.shape
    sums = x.new_empty(3, num_splits(tokens), tasks, hidden, dtype=accumulator(x))
    return torch.empty_like(x, memory_format=torch.contiguous_format), sums


def _setup(ctx, inputs, output):
    x, residual, weight, norm_bias, bias, _ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, residual, weight, bias, *output[1:])
    ctx.norm_bias_tasks = norm_bias.shape[0]


def _backward(ctx, grad, *_):
    if grad is None:
        return (None,) * 6
    x, residual, weight, bias, mean, rstd = ctx.saved_tensors
    op = torch.ops.lets_ext.add_layer_norm_bwd.default
    grad_x, sums = op(grad, x, residual, weight, bias, mean, rstd)
    grad_weight, grad_norm_bias, grad_bias = sums.sum(1)
    return (
        grad_x,
        sum_to(grad_x, residual.shape[0], x.dtype),
        sum_to(grad_weight, weight.shape[0], x.dtype),
        sum_to(grad_norm_bias, ctx.norm_bias_tasks, x.dtype),
        None if bias is None else sum_to(grad_bias, bias.shape[0], x.dtype),
        None,
    )


if LOADED:
    torch.library.register_fake("lets_ext::add_layer_norm", _fake)
    torch.library.register_fake("lets_ext::add_layer_norm_bwd", _fake_bwd)
    torch.library.register_autograd("lets_ext::add_layer_norm", _backward, setup_context=_setup)
