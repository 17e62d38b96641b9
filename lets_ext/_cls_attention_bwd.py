"""Gradients of cls_attention: one kernel for the rows, dense products and a SDDMM for the rest.

The kernel is the forward one with keys and values in each other's place (kernels/cls_attention.h).
It gives dq, ds and, per (task, head) row, dpx = (W_V + D_V)ᵀ g and ds · x.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lets_ext._devices import check_devices
from lets_ext._load import LOADED


def setup(ctx, inputs, output):
    tensors, (ctx.num_heads, ctx.scale, saved) = inputs[:15], inputs[15:]
    if not saved:
        raise RuntimeError("cls_attention: save must be True where a gradient is wanted")
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output[1:])


def backward(ctx, grad, *_):
    (
        q, x, key, value, key_weight, value_weight, key_crow, key_col, key_values, value_crow,
        value_col, value_values, _, key_mask, attn_bias, probs, z, px,
    ) = ctx.saved_tensors  # fmt: skip
    needs, num_heads = ctx.needs_input_grad, ctx.num_heads
    grads: list[Tensor | None] = [None] * len(needs)
    if grad is None:
        return tuple(grads)
    if needs[4] or needs[5]:
        raise RuntimeError("cls_attention: key_weight and value_weight must be frozen")
    grads[0], grad_scores, grad_px, mixed = torch.ops.lets_ext.cls_attention_bwd.default(
        grad, x, probs, key, value, key_weight, value_weight, key_crow, key_col, key_values,
        value_crow, value_col, value_values, key_mask, num_heads, ctx.scale,
    )  # fmt: skip
    if needs[1]:
        grads[1] = _x_grad(x, ((probs, grad_px), (grad_scores, z)))
    if needs[2]:
        grads[2] = _tokens_grad(grad_scores, q, key)
    if needs[3]:
        grads[3] = _tokens_grad(probs, grad, value)
    if needs[8]:
        grads[8] = _values_grad(q, mixed, key_crow, key_col).to(key_values.dtype)
    if needs[11]:
        grads[11] = _values_grad(grad, px, value_crow, value_col).to(value_values.dtype)
    if needs[12]:
        grads[12] = grad.sum(1)
    if needs[14]:
        grads[14] = (grad_scores.sum((0, 1)) / ctx.scale).to(attn_bias.dtype)
    return tuple(grads)


def _x_grad(x: Tensor, products: tuple[tuple[Tensor, Tensor], ...]) -> Tensor:
    """Sum of scores ⊗ rows over heads, and over tasks where they share x. [1|T, B, S, H]

    Args:
        products: Scores [B, T, A, S] and rows [B, T, A, H] or [0].
    """
    shared, (_, batch, length, hidden) = x.shape[0] == 1, x.shape
    total = None
    for scores, rows in products:
        if rows.numel() == 0:
            continue
        tasks, heads = scores.shape[1:3]
        sequences, heads = (batch, tasks * heads) if shared else (batch * tasks, heads)
        scores = scores.reshape(sequences, heads, length)
        rows = rows.reshape(sequences, heads, hidden)
        total = scores.mT @ rows if total is None else torch.baddbmm(total, scores.mT, rows)
    if total is None:
        return torch.zeros_like(x)
    return total.view(batch, x.shape[0], length, hidden).transpose(0, 1).to(x.dtype)


def _tokens_grad(scores: Tensor, rows: Tensor, like: Tensor) -> Tensor:
    """Gradient of cached keys or values: scores ⊗ rows per head. [1|T, B, S, H]"""
    batch, num_tasks, num_heads = scores.shape[:3]
    heads = rows.to(scores.dtype).view(num_tasks, batch, num_heads, rows.shape[-1] // num_heads)
    shared = like.shape[0] == 1
    equation = "btas,tbad->bsad" if shared else "btas,tbad->tbsad"
    return torch.einsum(equation, scores, heads).reshape(like.shape).to(like.dtype)


def _values_grad(rows: Tensor, mixed: Tensor, crow: Tensor, col: Tensor) -> Tensor:
    """Outer product of rows [T, B, H] and mixed [B, T, A, H] at the mask, heads apart. [nnz]

    A head of a task owns neighbouring rows of the CSR: to the SDDMM it is a task of its own.
    """
    batch, num_tasks, num_heads, hidden = mixed.shape
    width = hidden // num_heads
    heads = rows.to(mixed.dtype).reshape(num_tasks, batch, num_heads, width).transpose(1, 2)
    return torch.ops.lets_ext.delta_linear_bwd_values.default(
        heads.reshape(num_tasks * num_heads, batch, width),
        mixed.view(batch, num_tasks * num_heads, hidden).transpose(0, 1),
        crow,
        col,
        num_tasks * num_heads,
    )


def _fake(
    grad, x, probs, key, value, key_weight, value_weight, key_crow, key_col, key_values,
    value_crow, value_col, value_values, key_mask, num_heads, scale,
):  # fmt: skip
    check_devices(
        "cls_attention", grad, x, probs, key, value, key_weight, value_weight, key_crow, key_col,
        key_values, value_crow, value_col, value_values, key_mask,
    )  # fmt: skip
    num_tasks, batch, hidden = grad.shape
    rows = (batch, num_tasks, num_heads, hidden)
    reads_key, reads_value = (
        weight is not None or values is not None
        for weight, values in ((key_weight, key_values), (value_weight, value_values))
    )
    return (
        torch.empty_like(grad, memory_format=torch.contiguous_format),
        probs.new_empty(*rows[:3], x.shape[2]),
        probs.new_empty(rows if reads_value else (0,)),
        probs.new_empty(rows if reads_key else (0,)),
    )


if LOADED:
    torch.library.register_fake("lets_ext::cls_attention_bwd", _fake)
