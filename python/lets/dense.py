"""The plain twin: merged weights, torch alone, every layer in full and nothing cached.

Slow and obvious on purpose: what the engine is compared with, and what Delta-Pruning trains.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lets.frozen import ActivationCache, FrozenNeeds
from lets.policy import Policy
from lets.tokens import TokenBatch
from lets.weights import LayerWeights


def dense_forward(
    encoder: Any,
    weights: Sequence[LayerWeights],
    p_input: Tensor | Sequence[float],
    p_pool: Tensor | Sequence[float],
    head: nn.Module,
    inputs: TokenBatch | ActivationCache,
    streams: Collection[int] = (),
) -> Tensor:
    """Logits of a task, or of the super network, with its own dense layers (METHOD sections 3, 7).

    Args:
        weights: The task's layers, W^p + W^δ; a bypassed layer may be the encoder's own.
        p_input, p_pool: P(choice = f) per layer: 0 or 1 for a policy, 1/2 for the warm-up of the
            super network. [L]
        inputs: A batch, or what the frozen encoder made of it (`dense_needs`).
        streams: Layers with input s: their [CLS] row reads that of x^f and attends to x^p; P(input
            = f) is 0 there.

    Returns:
        [B, C], differentiable in `weights` and `head`.
    """
    sizes, bias = (encoder.shape.num_heads, encoder.eps), encoder.position_bias
    mask: Tensor | None
    if isinstance(inputs, TokenBatch):
        mask, frozen = inputs.attention_mask.bool(), _frozen_layers(encoder, inputs)
    else:
        mask, frozen = inputs.key_mask, _kept_layers(inputs, len(weights))
    x_p, _ = next(frozen)
    assert x_p is not None  # the embeddings, which layer 0 always reads
    x_f, pooled = x_p, []
    for j, own in enumerate(weights):
        mixed = _mix(x_p, x_f, p_input[j])
        rows = x_f[:, :1] if j in streams else None
        x_f = dense_layer(own, mixed, mask, *sizes, bias, rows)
        x_p, row = next(frozen)
        pooled.append(_mix(row, x_f[:, 0], p_pool[j]))
    return head(torch.stack(pooled, dim=1))


def _mix(p: Tensor | None, f: Tensor, share: Tensor | float) -> Tensor:
    """P(choice = f) of f and the rest of p; None: nothing of p is read."""
    return f if p is None else (1 - share) * p + share * f


_Frozen = Iterator[tuple[Tensor | None, Tensor | None]]  # x^p_j and its [CLS] row, from j = -1


@torch.no_grad()
def _frozen_layers(encoder: Any, batch: TokenBatch) -> _Frozen:
    mask, x = batch.attention_mask.bool(), encoder.embed(batch)
    yield x, x[:, 0]
    for weights in encoder.layers:
        sizes = encoder.shape.num_heads, encoder.eps, encoder.position_bias
        x = dense_layer(weights.plain(), x, mask, *sizes)
        yield x, x[:, 0]


def _kept_layers(cache: ActivationCache, num_layers: int) -> _Frozen:
    """None where nothing is read."""
    for j in range(-1, num_layers):
        x = cache.hidden.get(j)
        row = cache.cls_rows.get(j) if x is None else x[:, 0]
        yield x, row


def dense_needs(p_input: Tensor | Sequence[float], p_pool: Tensor | Sequence[float]) -> FrozenNeeds:
    """What `dense_forward` reads of the frozen encoder."""
    return FrozenNeeds(
        hidden=frozenset(j - 1 for j, p in enumerate(p_input) if p < 1),
        pooled=frozenset(j for j, p in enumerate(p_pool) if p < 1),
    )


def dense_layer(
    weights: LayerWeights,
    x: Tensor,
    mask: Tensor | None,
    num_heads: int,
    eps: float,
    position_bias: Tensor | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """One post-LN layer (METHOD section 2). x [B, S, H], mask bool [B, S] or none -> [B, S, H]

    Args:
        position_bias: Added to the attention scores; of at least S tokens. [A, >= S, >= S]
        rows: The first R rows of another input: they attend to x, and are all that is computed.
            [B, R, H] -> [B, R, H]
    """
    batch, length, hidden = x.shape
    qkv = F.linear(x, weights.qkv_weight, weights.qkv_bias)
    q, k, v = qkv.view(batch, length, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
    if rows is not None:
        q = F.linear(rows, weights.qkv_weight[:hidden], weights.qkv_bias[:hidden])
        q = q.view(batch, rows.shape[1], num_heads, -1).transpose(1, 2)
        x = rows
    attended = None if mask is None else mask[:, None, None]
    if position_bias is not None:
        bias = position_bias[:, : q.shape[2], :length]
        attended = bias if attended is None else torch.where(attended, bias, -torch.inf)
    ctx = F.scaled_dot_product_attention(q, k, v, attn_mask=attended)
    ctx = ctx.transpose(1, 2).reshape(x.shape)
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
    p_input, p_pool, streams = choices_of(model.policy)
    weights = merged_layers(model)
    return dense_forward(model.encoder, weights, p_input, p_pool, model.head, batch, streams)


def choices_of(policy: Policy) -> tuple[list[float], list[float], frozenset[int]]:
    """P(input = f), P(pool = f), and the layers with input s."""
    p_input, p_pool = ([float(s == "f") for s in text] for text in (policy.input, policy.pool))
    return p_input, p_pool, frozenset(j for j, s in enumerate(policy.input) if s == "s")
