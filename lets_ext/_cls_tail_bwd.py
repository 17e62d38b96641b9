"""Gradients of cls_tail: the few rows are computed again, then every step is walked back."""

from __future__ import annotations

import torch
from torch import Tensor

from lets_ext.add_layer_norm import layer_norm_backward, sum_to

# Position of the first of a delta's six tensors among the inputs of the op.
_DELTAS = {"out": 12, "up": 18, "down": 24}
_EPS = 30


class _Linear:
    """A frozen weight with its sparse delta, in the accumulator's type."""

    def __init__(self, weight: Tensor, bias: Tensor, delta: tuple, num_tasks: int, dtype):
        self.weight, self.bias, self.num_tasks = weight.to(dtype), bias, num_tasks
        self.values, self.crow, self.col, *self.transposed = delta
        self.wide_values = None if self.values is None else self.values.to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        out = x @ self.weight.mT + self.bias.to(x.dtype)[:, None]
        if self.values is None:
            return out
        structure = (self.crow, self.col, *self.transposed)
        op = torch.ops.lets_ext.delta_linear.default
        return op(out, x, self.wide_values, *structure, self.num_tasks, None)

    def backward(self, grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Gradients of x, of the delta's values and of the bias."""
        grad_x, grad_values = grad @ self.weight, None
        if self.values is not None:
            ops = torch.ops.lets_ext
            grad_x = grad_x + ops.delta_linear_bwd_x.default(
                grad, self.wide_values, *self.transposed, self.num_tasks, x.shape[2]
            )
            grad_values = ops.delta_linear_bwd_values.default(
                grad, x, self.crow, self.col, self.num_tasks
            ).to(self.values.dtype)
        return grad_x, grad_values, sum_to(grad.sum(1), self.bias.shape[0], self.bias.dtype)


class _Norm:
    """A layer norm with vectors per task, in the accumulator's type."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float):
        self.weight, self.bias, self.eps = weight, bias, eps

    def __call__(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The normed rows, and what `backward` needs."""
        mean = x.mean(-1, keepdim=True)
        rstd = ((x - mean).square().mean(-1, keepdim=True) + self.eps).rsqrt()
        normed = (x - mean) * rstd
        out = normed * self.weight.to(x.dtype)[:, None] + self.bias.to(x.dtype)[:, None]
        return out, (normed, rstd)

    def backward(self, grad: Tensor, saved: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the rows, of the weight and of the bias."""
        normed, rstd = saved
        grad_x = layer_norm_backward(grad * self.weight.to(grad.dtype)[:, None], normed, rstd)
        grad_weight = sum_to((grad * normed).sum(1), self.weight.shape[0], self.weight.dtype)
        return grad_x, grad_weight, sum_to(grad.sum(1), self.bias.shape[0], self.bias.dtype)


def setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:_EPS])
    ctx.eps = inputs[_EPS]


def backward(ctx, grad):
    tensors = ctx.saved_tensors
    rows, residual, out_weight, up_weight, down_weight, out_bias = tensors[:6]
    attn_norm_weight, attn_norm_bias, up_bias, down_bias, norm_weight, norm_bias = tensors[6:12]
    if any(ctx.needs_input_grad[2:5]):
        raise RuntimeError("cls_tail: out_weight, up_weight and down_weight must be frozen")
    wide = torch.float64 if rows.dtype == torch.float64 else torch.float32

    def linear(name: str, weight: Tensor, bias: Tensor) -> _Linear:
        delta = tensors[_DELTAS[name] : _DELTAS[name] + 6]
        return _Linear(weight, bias, delta, rows.shape[0], wide)

    attn, up = linear("out", out_weight, out_bias), linear("up", up_weight, up_bias)
    down = linear("down", down_weight, down_bias)
    attn_norm = _Norm(attn_norm_weight, attn_norm_bias, ctx.eps)
    norm = _Norm(norm_weight, norm_bias, ctx.eps)

    x = rows.to(wide)
    h, saved_attn_norm = attn_norm(attn(x) + residual.to(wide))
    before_gelu = up(h)
    inner = torch.nn.functional.gelu(before_gelu)
    _, saved_norm = norm(down(inner) + h)

    grads: list[Tensor | None] = [None] * (_EPS + 1)
    grad_sum, grads[10], grads[11] = norm.backward(grad.to(wide), saved_norm)
    grad_inner, grads[_DELTAS["down"]], grads[9] = down.backward(grad_sum, inner)
    grad_gelu = torch.ops.aten.gelu_backward.default(grad_inner, before_gelu)
    grad_h, grads[_DELTAS["up"]], grads[8] = up.backward(grad_gelu, h)
    grad_attn, grads[6], grads[7] = attn_norm.backward(grad_h + grad_sum, saved_attn_norm)
    grad_rows, grads[_DELTAS["out"]], grads[5] = attn.backward(grad_attn, x)
    grads[0] = grad_rows.to(rows.dtype)
    grads[1] = sum_to(grad_attn, residual.shape[0], residual.dtype)
    return tuple(g if need else None for g, need in zip(grads, ctx.needs_input_grad, strict=True))
