"""Gradients of cls_tail: the few rows are computed again, then every step is walked back."""

from __future__ import annotations

import torch
from torch import Tensor

from lets_ext._columns import accumulator, sum_to

# Position of the first of a delta's six tensors among the inputs of the op.
_DELTAS = {"out": 12, "up": 18, "down": 24}
_EPS = 30


class _Linear:
    """A frozen weight with its sparse delta, in the accumulator's type."""

    def __init__(self, weight: Tensor, delta: tuple, num_tasks: int, dtype):
        self.weight, self.num_tasks = weight.to(dtype), num_tasks
        self.values, self.crow, self.col, *self.transposed = delta
        self.wide_values = None if self.values is None else self.values.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        out = x @ self.weight.mT
        if self.values is None:
            return out
        structure = (self.crow, self.col, *self.transposed)
        op = torch.ops.lets_ext.delta_linear.default
        return op(out, x, self.wide_values, *structure, self.num_tasks, None)

    def backward(self, grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Gradients of x and of the delta's values."""
        grad_x, grad_values = grad @ self.weight, None
        if self.values is not None:
            ops = torch.ops.lets_ext
            grad_x = grad_x + ops.delta_linear_bwd_x.default(
                grad, self.wide_values, *self.transposed, self.num_tasks, x.shape[2]
            )
            grad_values = ops.delta_linear_bwd_values.default(
                grad, x, self.crow, self.col, self.num_tasks
            ).to(self.values.dtype)
        return grad_x, grad_values


class _Norm:
    """A layer norm with the bias of the linear layer before it, vectors in the rows' type."""

    def __init__(self, weight: Tensor, norm_bias: Tensor, bias: Tensor, dtype, eps: float):
        self.vectors = weight, norm_bias, bias
        self.weight, self.norm_bias, self.bias = (v.to(dtype) for v in self.vectors)
        self.eps = eps

    def __call__(self, x: Tensor, residual: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The normed rows, and what `backward` needs."""
        op = torch.ops.lets_ext.add_layer_norm.default
        out, mean, rstd = op(x, residual, self.weight, self.norm_bias, self.bias, self.eps)
        return out, (x, residual, self.weight, self.bias, mean, rstd)

    def backward(self, grad: Tensor, saved: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Gradients of the rows and of the three vectors."""
        grad_x, sums = torch.ops.lets_ext.add_layer_norm_bwd.default(grad, *saved)
        vectors = zip(sums.sum(1), self.vectors, strict=True)
        return grad_x, *(sum_to(g, v.shape[0], v.dtype) for g, v in vectors)


def setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:_EPS])
    ctx.eps = inputs[_EPS]


def backward(ctx, grad):
    tensors = ctx.saved_tensors
    rows, residual, out_weight, up_weight, down_weight, out_bias = tensors[:6]
    attn_norm_weight, attn_norm_bias, up_bias, down_bias, norm_weight, norm_bias = tensors[6:12]
    if any(ctx.needs_input_grad[2:5]):
        raise RuntimeError("cls_tail: out_weight, up_weight and down_weight must be frozen")
    wide = accumulator(rows)

    def linear(name: str, weight: Tensor) -> _Linear:
        delta = tensors[_DELTAS[name] : _DELTAS[name] + 6]
        return _Linear(weight, delta, rows.shape[0], wide)

    attn, up, down = linear("out", out_weight), linear("up", up_weight), linear("down", down_weight)
    attn_norm = _Norm(attn_norm_weight, attn_norm_bias, out_bias, wide, ctx.eps)
    norm = _Norm(norm_weight, norm_bias, down_bias, wide, ctx.eps)
    gelu_bias = up_bias.to(wide)

    x = rows.to(wide)
    h, saved_attn_norm = attn_norm(attn(x), residual.to(wide))
    before_gelu = up(h)
    inner = torch.ops.lets_ext.bias_gelu.default(before_gelu, gelu_bias)
    _, saved_norm = norm(down(inner), h)

    grads: list[Tensor | None] = [None] * (_EPS + 1)
    grad_sum, grads[10], grads[11], grads[9] = norm.backward(grad.to(wide), saved_norm)
    grad_inner, grads[_DELTAS["down"]] = down.backward(grad_sum, inner)
    bwd = torch.ops.lets_ext.bias_gelu_bwd.default
    grad_gelu, sums = bwd(grad_inner, before_gelu, gelu_bias)
    grads[8] = sum_to(sums.sum(0), up_bias.shape[0], up_bias.dtype)
    grad_h, grads[_DELTAS["up"]] = up.backward(grad_gelu, h)
    grad_attn, grads[6], grads[7], grads[5] = attn_norm.backward(grad_h + grad_sum, saved_attn_norm)
    grad_rows, grads[_DELTAS["out"]] = attn.backward(grad_attn, x)
    grads[0] = grad_rows.to(rows.dtype)
    grads[1] = sum_to(grad_attn, residual.shape[0], residual.dtype)
    return tuple(g if need else None for g, need in zip(grads, ctx.needs_input_grad, strict=True))
