"""Frozen activations kept between epochs: exact, bounded, x^p only (Q, K, V are computed again)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lets.encoder import ActivationCache, Encoder, FrozenNeeds
from lets.layers import project_qkv
from lets.tokens import TokenBatch


@dataclass(frozen=True)
class _Kept:
    """A batch's x^p, and in which form its products were read."""

    cache: ActivationCache
    qkv: tuple[int, ...]
    cls_qkv: tuple[int, ...]


class FrozenActivations:
    """What the frozen encoder gives to a task's batches.

    A batch is kept under a key that names its rows; that needs batches with the same rows in every
    epoch, because what a row's activations are, bit for bit, depends on the batch's padding.

    Args:
        max_bytes: Batches are kept, first come first served, while they fit. 0: none.
    """

    def __init__(self, encoder: Encoder, needs: FrozenNeeds, max_bytes: int) -> None:
        self.encoder, self.needs, self.max_bytes = encoder, needs, max_bytes
        self.bytes = self.hits = 0
        self._kept: dict[int, _Kept] = {}

    def __call__(self, batch: TokenBatch, key: int | None = None) -> ActivationCache:
        """Frozen activations of a batch, from memory if it was seen under this key."""
        if key is not None and key in self._kept:
            self.hits += 1
            return self._restore(self._kept[key])
        cache = self.encoder.forward(batch, self.needs)
        if key is not None:
            size = sum(_bytes(t) for t in (*cache.hidden.values(), *cache.cls_rows.values()))
            if self.bytes + size <= self.max_bytes:
                self.bytes += size
                slim = ActivationCache(cache.key_mask, dict(cache.hidden), dict(cache.cls_rows))
                self._kept[key] = _Kept(slim, tuple(cache.qkv), tuple(cache.key_value))
        return cache

    @torch.no_grad()
    def _restore(self, kept: _Kept) -> ActivationCache:
        cache = ActivationCache(
            kept.cache.key_mask, dict(kept.cache.hidden), dict(kept.cache.cls_rows)
        )
        for j in kept.qkv:
            cache.qkv[j] = project_qkv(cache.hidden[j - 1], self.encoder.layer(j))
        for j in kept.cls_qkv:
            self.encoder.project_cls(cache, j, cache.hidden[j - 1])
        return cache


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
