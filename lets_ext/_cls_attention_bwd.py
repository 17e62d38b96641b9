"""Gradients of cls_attention, composed of torch ops.

Forward and backward mirror each other: with g the gradient of ctx, dpx = (W_V + D_V)ᵀ g is formed
like z, dp = g · value + dpx · x like the scores, and dq = ds · key + (W_K + D_K)(ds · x) like ctx.
"""

from __future__ import annotations

import torch
from torch import Tensor


def setup(ctx, inputs, output):
    tensors, (ctx.num_heads, ctx.scale) = inputs[:15], inputs[15:]
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output[1:])


class _Projection:
    """One of the two projections in the backward pass, in the accumulator's type, heads split.

    Rows are ordered [T, B, A]; a delta is applied entry by entry, never as a dense matrix.
    """

    def __init__(self, weight, crow, col, values, num_heads, like):
        self.num_tasks, self.batch, self.hidden = like.shape
        self.num_heads, self.dtype = num_heads, like.dtype
        self.weight = None
        if weight is not None:
            self.weight = weight.to(like.dtype).view(num_heads, -1, self.hidden)
        self.values = values
        if values is not None:
            counts, nnz = crow.diff(), values.shape[0]
            rows = torch.repeat_interleave(counts, output_size=nnz).long()
            task, self.feature = rows // self.hidden, rows % self.hidden
            dim = self.hidden // num_heads
            self.row = rows  # of [T * H]
            # Position in a [T, A, H] tensor of what this entry multiplies.
            self.slot = (task * num_heads + self.feature // dim) * self.hidden + col
            self.wide_values = values.to(like.dtype)

    def transposed(self, rows):
        """(W_h + D_h)ᵀ rows_h: [T, B, H] -> [T, B, A, H]."""
        heads = rows.view(self.num_tasks, self.batch, self.num_heads, -1)
        shape = (self.num_tasks, self.batch, self.num_heads, self.hidden)
        out = rows.new_zeros(shape)
        if self.weight is not None:
            out = torch.einsum("tbad,adi->tbai", heads, self.weight)
        if self.values is not None:
            flat = out.transpose(0, 1).reshape(self.batch, -1)
            products = self._entries(rows) * self.wide_values
            flat = flat.scatter_add(1, self.slot.expand(self.batch, -1), products)
            out = flat.view(self.batch, self.num_tasks, *shape[2:]).transpose(0, 1)
        return out

    def applied(self, mixed):
        """(W_h + D_h) mixed_h: [T, B, A, H] -> [T, B, H]."""
        shape = (self.num_tasks, self.batch, self.hidden)
        out = mixed.new_zeros(shape)
        if self.weight is not None:
            out = torch.einsum("tbai,adi->tbad", mixed, self.weight).reshape(shape)
        if self.values is not None:
            flat = out.transpose(0, 1).reshape(self.batch, -1)
            products = self._mixed_entries(mixed) * self.wide_values
            flat = flat.scatter_add(1, self.row.expand(self.batch, -1), products)
            out = flat.view(self.batch, self.num_tasks, self.hidden).transpose(0, 1)
        return out

    def values_grad(self, rows, mixed):
        """Outer product of rows [T, B, H] and mixed [T, B, A, H] at the mask. [nnz]"""
        return (self._entries(rows) * self._mixed_entries(mixed)).sum(0).to(self.values.dtype)

    def _entries(self, rows):
        return rows.transpose(0, 1).reshape(self.batch, -1)[:, self.row]

    def _mixed_entries(self, mixed):
        return mixed.transpose(0, 1).reshape(self.batch, -1)[:, self.slot]


def backward(ctx, grad, *_):
    (
        q, x, key, value, key_weight, value_weight, key_crow, key_col, key_values, value_crow,
        value_col, value_values, value_bias, _, attn_bias, probs, z, px,
    ) = ctx.saved_tensors  # fmt: skip
    grads: list[Tensor | None] = [None] * 17
    if grad is None:
        return tuple(grads)
    needs, num_heads = ctx.needs_input_grad, ctx.num_heads
    if needs[4] or needs[5]:
        raise RuntimeError("cls_attention: key_weight and value_weight must be frozen")
    wide = probs.dtype
    probs = probs.transpose(0, 1)  # rows are [B, T, A] in the kernels
    grad_wide, q_wide, x_wide = grad.to(wide), q.to(wide), x.to(wide)
    heads = (*q.shape[:2], num_heads, q.shape[2] // num_heads)
    grad_heads, q_heads = grad_wide.view(heads), q_wide.view(heads)
    keys = _Projection(key_weight, key_crow, key_col, key_values, num_heads, q_wide)
    values = _Projection(value_weight, value_crow, value_col, value_values, num_heads, q_wide)
    has_z, has_px = z.numel() > 0, px.numel() > 0

    grad_x = None
    grad_probs = torch.zeros_like(probs)
    if has_px:
        grad_px = values.transposed(grad_wide)
        grad_probs = grad_px @ x_wide.mT
        grad_x = _outer(probs, grad_px, x)
        if value_values is not None:
            grads[11] = values.values_grad(grad_wide, px.transpose(0, 1))
    if value is not None:
        grad_probs = grad_probs + torch.einsum(
            "tbad,tbsad->tbas", grad_heads, _split(value, wide, num_heads, q.shape[0])
        )
        grads[3] = _tokens_grad(probs, grad_heads, value)
    inner = (probs * grad_probs).sum(-1, keepdim=True)
    grad_scores = probs * (grad_probs - inner)
    grads[14] = None if attn_bias is None else grad_scores.sum((0, 1)).to(attn_bias.dtype)
    grad_scores = grad_scores * ctx.scale

    grad_q = torch.zeros_like(q_wide)
    if has_z:
        mixed = grad_scores @ x_wide
        grad_q = keys.applied(mixed)
        from_scores = _outer(grad_scores, z.transpose(0, 1), x)
        grad_x = from_scores if grad_x is None else grad_x + from_scores
        if key_values is not None:
            grads[8] = keys.values_grad(q_wide, mixed)
    if key is not None:
        from_keys = torch.einsum(
            "tbas,tbsad->tbad", grad_scores, _split(key, wide, num_heads, q.shape[0])
        )
        grad_q = grad_q + from_keys.reshape(q.shape)
        grads[2] = _tokens_grad(grad_scores, q_heads, key)
    grads[0] = grad_q.to(q.dtype)
    grads[1] = torch.zeros_like(x) if grad_x is None else grad_x.to(x.dtype)
    grads[12] = None if value_bias is None else grad_wide.sum(1).to(q.dtype)
    return tuple(g if need else None for g, need in zip(grads, needs, strict=True))


def _split(tokens: Tensor, dtype: torch.dtype, num_heads: int, num_tasks: int) -> Tensor:
    shape = (*tokens.shape[:3], num_heads, tokens.shape[3] // num_heads)
    return tokens.to(dtype).reshape(shape).expand(num_tasks, -1, -1, -1, -1)


def _outer(scores: Tensor, rows: Tensor, like: Tensor) -> Tensor:
    """Sum over heads (and tasks, where `like` is shared) of scores ⊗ rows. [1|T, B, S, H]"""
    shared = like.shape[0] == 1
    return torch.einsum("tbas,tbai->bsi" if shared else "tbas,tbai->tbsi", scores, rows).view(
        like.shape
    )


def _tokens_grad(scores: Tensor, rows: Tensor, like: Tensor) -> Tensor:
    """Gradient of cached keys or values: scores ⊗ rows per head. [1|T, B, S, H]"""
    shared = like.shape[0] == 1
    equation = "tbas,tbad->bsad" if shared else "tbas,tbad->tbsad"
    return torch.einsum(equation, scores, rows).reshape(like.shape).to(like.dtype)
