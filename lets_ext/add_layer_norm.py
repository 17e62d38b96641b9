"""add_layer_norm: residual sum, bias and layer norm in one pass, with vectors per task."""

from __future__ import annotations

import torch
from torch import Tensor

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
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out, x.new_empty(x.shape[:2], dtype=wide), x.new_empty(x.shape[:2], dtype=wide)


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
    wide, low = mean.dtype, x.dtype
    grad = grad.to(wide)
    total = x.to(wide) + residual.to(wide)
    if bias is not None:
        total = total + bias.to(wide)[:, None]
    normed = (total - mean[..., None]) * rstd[..., None]
    grad_x = layer_norm_backward(grad * weight.to(wide)[:, None], normed, rstd[..., None])
    return (
        grad_x.to(low),
        sum_to(grad_x, residual.shape[0], low),
        sum_to((grad * normed).sum(1), weight.shape[0], low),
        sum_to(grad.sum(1), ctx.norm_bias_tasks, low),
        None if bias is None else sum_to(grad_x.sum(1), bias.shape[0], low),
        None,
    )


def layer_norm_backward(grad: Tensor, normed: Tensor, rstd: Tensor) -> Tensor:
    """Gradient of the rows, given that of the normed rows before scale and shift."""
    centred = grad - grad.mean(-1, keepdim=True)
    return rstd * (centred - normed * (grad * normed).mean(-1, keepdim=True))


def sum_to(grad: Tensor, num_tasks: int, dtype: torch.dtype) -> Tensor:
    """Gradient of a tensor with `num_tasks` leading entries: what all tasks share is summed."""
    total = grad if grad.shape[0] == num_tasks else grad.sum(0, keepdim=True)
    return total.to(dtype)


if LOADED:
    torch.library.register_fake("lets_ext::add_layer_norm", _fake)
    torch.library.register_autograd("lets_ext::add_layer_norm", _backward, setup_context=_setup)
