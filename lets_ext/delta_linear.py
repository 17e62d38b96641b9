"""delta_linear: add the product with a sparse delta to a product that every task shares."""

from __future__ import annotations

import torch
from torch import Tensor

from lets_ext._devices import check_devices, check_elements
from lets_ext._load import LOADED, require_ops
from lets_ext.layout import Delta


def delta_linear(base: Tensor, x: Tensor, delta: Delta, bias: Tensor | None = None) -> Tensor:
    """Compute ``base + x @ delta.T + bias`` for T tasks at once (METHOD section 4).

    A leading 1 means that all tasks share the tensor. Differentiable in base, x, values and bias;
    deterministic, whatever the number of threads.

    Args:
        base: Product of the frozen weight, ``x @ W.T``. [1|T, N, O]
        x: Activations. [1|T, N, I]
        delta: Sparse deltas of the T tasks. T x [O, I]
        bias: Change of the bias. [T, O]

    Returns:
        [T, N, O]
    """
    require_ops()
    layout = delta.layout
    return torch.ops.lets_ext.delta_linear.default(
        base,
        x,
        delta.values,
        layout.crow_indices,
        layout.col_indices,
        layout.ccol_indices,
        layout.row_indices,
        layout.permutation,
        layout.num_tasks,
        bias,
    )


def delta_linear_ref(base: Tensor, x: Tensor, delta: Delta, bias: Tensor | None = None) -> Tensor:
    """`delta_linear` in plain torch."""
    out = base + x @ delta.to_dense().transpose(1, 2)
    return out if bias is None else out + bias[:, None]


def _fake(base, x, values, crow, col, ccol, row, permutation, num_tasks, bias=None):
    check_devices("delta_linear", base, x, values, crow, col, ccol, row, permutation, bias)
    out = x.new_empty(num_tasks, x.shape[1], base.shape[2])
    check_elements("delta_linear", out)
    return out


def _fake_bwd_x(grad, values, ccol, row, permutation, num_tasks, in_features):
    check_devices("delta_linear_bwd_x", grad, values, ccol, row, permutation)
    return grad.new_empty(num_tasks, grad.shape[1], in_features)


def _fake_bwd_values(grad, x, crow, col, num_tasks):
    check_devices("delta_linear_bwd_values", grad, x, crow, col)
    return x.new_empty(col.shape[0])


def _setup(ctx, inputs, output):
    base, x, values, crow, col, ccol, row, permutation, num_tasks, _ = inputs
    ctx.save_for_backward(x, values, crow, col, ccol, row, permutation)
    ctx.num_tasks, ctx.base_tasks = num_tasks, base.shape[0]


def _backward(ctx, grad):
    x, values, crow, col, ccol, row, permutation = ctx.saved_tensors
    needs_base, needs_x, needs_values, *_, needs_bias = ctx.needs_input_grad
    ops, num_tasks = torch.ops.lets_ext, ctx.num_tasks
    grads: list[Tensor | None] = [None] * len(ctx.needs_input_grad)
    if needs_base:
        grads[0] = _reduce_tasks(grad, ctx.base_tasks)
    if needs_x:
        grad_x = ops.delta_linear_bwd_x.default(
            grad, values, ccol, row, permutation, num_tasks, x.shape[2]
        )
        grads[1] = _reduce_tasks(grad_x, x.shape[0])
    if needs_values:
        grads[2] = ops.delta_linear_bwd_values.default(grad, x, crow, col, num_tasks)
    if needs_bias:
        grads[-1] = grad.sum(1)
    return tuple(grads)


def _reduce_tasks(grad: Tensor, num_tasks: int) -> Tensor:
    """Gradient of a tensor with `num_tasks` leading entries: what all tasks share is summed."""
    return grad if grad.shape[0] == num_tasks else grad.sum(0, keepdim=True)


if LOADED:
    torch.library.register_fake("lets_ext::delta_linear", _fake)
    torch.library.register_fake("lets_ext::delta_linear_bwd_x", _fake_bwd_x)
    torch.library.register_fake("lets_ext::delta_linear_bwd_values", _fake_bwd_values)
    torch.library.register_autograd("lets_ext::delta_linear", _backward, setup_context=_setup)
