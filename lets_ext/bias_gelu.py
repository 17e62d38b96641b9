"""bias_gelu: gelu(x + bias) in one pass, with a bias per task."""

from __future__ import annotations

import torch
from torch import Tensor

from lets_ext._columns import accumulator, num_splits, sum_to
from lets_ext._devices import check_devices
from lets_ext._load import LOADED, require_ops


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Compute ``gelu(x + bias)`` with the exact erf. Differentiable in both.

    Args:
        x: [T, N, F]
        bias: A leading 1 is shared by all tasks. [1|T, F]

    Returns:
        [T, N, F]
    """
    require_ops()
    return torch.ops.lets_ext.bias_gelu.default(x, bias)


def bias_gelu_ref(x: Tensor, bias: Tensor) -> Tensor:
    """`bias_gelu` in plain torch."""
    return torch.nn.functional.gelu(x + bias[:, None])


def _fake(x, bias):
    check_devices("bias_gelu", x, bias)
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _fake_bwd(grad, x, bias):
    check_devices("bias_gelu_bwd", x, grad, bias)
    sums = x.new_empty(num_splits(x.shape[1]), x.shape[0], x.shape[2], dtype=accumulator(x))
    return torch.empty_like(x, memory_format=torch.contiguous_format), sums


def _setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad):
    x, bias = ctx.saved_tensors
    grad_x, sums = torch.ops.lets_ext.bias_gelu_bwd.default(grad, x, bias)
    return grad_x, sum_to(sums.sum(0), bias.shape[0], x.dtype)


if LOADED:
    torch.library.register_fake("lets_ext::bias_gelu", _fake)
    torch.library.register_fake("lets_ext::bias_gelu_bwd", _fake_bwd)
    torch.library.register_autograd("lets_ext::bias_gelu", _backward, setup_context=_setup)
