"""The serial executor: one task's layers after each other, bottom to top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lets.encoder import ActivationCache
from lets.layers import (
    FrozenLayer,
    OwnLayer,
    cached_cls_layer,
    cls_layer,
    full_layer,
    project_qkv,
)
from lets.policy import LayerCase, Policy


def pooled_rows(
    policy: Policy,
    layers: Sequence[FrozenLayer],
    own: Mapping[int, OwnLayer],
    cache: ActivationCache,
) -> Tensor:
    """What the heads of T tasks of one policy read: the [CLS] row of x^p_j or x^f_j, per layer.

    Args:
        layers: Of the encoder, bottom to top.
        own: What the tasks own of each live layer.

    Returns:
        [T, B, L, H]
    """
    rows: list[Tensor] = []
    x: Tensor | None = None  # x^f of the layer below, where this layer reads it. [T, B, S, H]
    for j, case in enumerate(policy.cases):
        if case is LayerCase.BYPASS:
            rows.append(cache.pooled(j)[None])
            continue
        layer, frozen_input = layers[j], policy.input[j] == "p"
        if frozen_input:
            x = cache.hidden[j - 1][None]
        assert x is not None  # a live layer with input f has a live layer below it
        if case is LayerCase.P_CLS:
            query, key, value = (t[None] for t in cache.cls_products(j))
            row = cached_cls_layer(query, key, value, x, cache.key_mask, layer, own[j])
        elif case is LayerCase.F_CLS:
            row = cls_layer(x, cache.key_mask, layer, own[j])
        else:
            qkv = cache.qkv[j][None] if frozen_input else project_qkv(x, layer)
            x = full_layer(qkv, x, cache.key_mask, layer, own[j])
            row = x[:, :, 0]
        rows.append(row if policy.pool[j] == "f" else cache.pooled(j)[None])
    tasks = max(row.shape[0] for row in rows)
    return torch.stack([row.expand(tasks, -1, -1) for row in rows], dim=2)
