"""The plain twin: merged weights, torch alone, every layer in full and nothing cached.

Slow and obvious on purpose: what the engine is compared with, and what Delta-Pruning trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lets.tokens import TokenBatch
from lets.weights import LayerWeights


def dense_forward(
    encoder: Any,
    weights: Sequence[LayerWeights],
    p_input: Tensor | Sequence[float],
    p_pool: Tensor | Sequence[float],
    head: nn.Module,
    batch: TokenBatch,
) -> Tensor:
    """Logits of a task, or of the super network, with its own dense layers (METHOD sections 3, 7).

    Args:
        weights: The task's layers, W^p + W^δ; a bypassed layer may be the encoder's own.
        p_input, p_pool: P(choice = f) per layer: 0 or 1 for a policy, 1/2 for the warm-up of the
            super network. [L]

    Returns:
        [B, C], differentiable in `weights` and `head`.
    """
    sizes = encoder.shape.num_heads, encoder.eps
    mask, bias = batch.attention_mask.bool(), encoder.position_bias
    x_p = x_f = encoder.embed(batch)
    pooled = []
    for j, own in enumerate(weights):
        mixed = (1 - p_input[j]) * x_p + p_input[j] * x_f
        x_f = dense_layer(own, mixed, mask, *sizes, bias)
        with torch.no_grad():
            x_p = dense_layer(encoder.layers[j].plain(), x_p, mask, *sizes, bias)
        pooled.append((1 - p_pool[j]) * x_p[:, 0] + p_pool[j] * x_f[:, 0])
    return head(torch.stack(pooled, dim=1))


def dense_layer(
    weights: LayerWeights,
    x: Tensor,
    mask: Tensor,
    num_heads: int,
    eps: float,
    position_bias: Tensor | None = None,
) -> Tensor:
    """One post-LN layer (METHOD section 2). x [B, S, H], mask bool [B, S] -> [B, S, H]

    Args:
        position_bias: Added to the attention scores; of at least S tokens. [A, >= S, >= S]
    """
    batch, length, hidden = x.shape
    qkv = F.linear(x, weights.qkv_weight, weights.qkv_bias)
    q, k, v = qkv.view(batch, length, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
    attended = mask[:, None, None]
    if position_bias is not None:
        attended = torch.where(attended, position_bias[:, :length, :length], -torch.inf)
    ctx = F.scaled_dot_product_attention(q, k, v, attn_mask=attended)
    ctx = ctx.transpose(1, 2).reshape(batch, length, hidden)
    return dense_tail(weights, ctx, x, eps)


def dense_tail(weights: LayerWeights, ctx: Tensor, x: Tensor, eps: float) -> Tensor:
    """Nodes n4 to n6 of some rows: after the attention. ctx, x [..., H] -> [..., H]"""
    size = x.shape[-1:]
    h = x + F.linear(ctx, weights.out_weight, weights.out_bias)
    h = F.layer_norm(h, size, weights.attn_norm_weight, weights.attn_norm_bias, eps)
    inner = F.gelu(F.linear(h, weights.up_weight, weights.up_bias))
    out = h + F.linear(inner, weights.down_weight, weights.down_bias)
    return F.layer_norm(out, size, weights.norm_weight, weights.norm_bias, eps)


def merged_layers(model: Any) -> list[LayerWeights]:
    """W^p + W^δ, or W^f, of every layer of a TaskModel; bypassed layers are the encoder's own."""
    layers = [weights.plain() for weights in model.encoder.layers]
    for j in model.policy.live_layers:
        layers[j] = model.layers[str(j)].merged().weights
    return layers


def evaluate_densely(model: Any, batch: TokenBatch) -> Tensor:
    """What a TaskModel must answer: its merged weights, evaluated plainly. [B, C]"""
    policy = model.policy
    p_input, p_pool = ([float(s == "f") for s in text] for text in (policy.input, policy.pool))
    return dense_forward(model.encoder, merged_layers(model), p_input, p_pool, model.head, batch)
