"""Frozen activations of training rows, kept between batches, epochs and stages: x^p, bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lets.encoder import ActivationCache, FrozenNeeds
from lets.layers import project_qkv
from lets.task_data import TaskData
from lets.train.scoring import token_lengths

_GROUP = 8


@dataclass(frozen=True)
class _Kept:
    """x^p of a group's rows: all rows of layers [G, S, H], or the [CLS] row alone [G, H]."""

    hidden: dict[int, Tensor]
    cls_rows: dict[int, Tensor]


class FrozenRows:
    """What the frozen encoder gives to batches of training rows.

    What a row's activations are, bit for bit, depends on the padding that they are computed with.
    Kept ones are therefore computed in groups that never change, neighbours in length, and batches
    are put together from them: the same bits whatever the batch, and in a run that is resumed.

    Args:
        max_bytes: So many groups are kept as fit into it, the shortest texts first; other rows are
            computed in their batch. 0: none is kept.
    """

    def __init__(self, encoder: Any, data: TaskData, max_length: int, max_bytes: int = 0) -> None:
        self.encoder, self.data, self.max_length = encoder, data, max_length
        self.bytes = self.hits = 0
        self._needs = FrozenNeeds()
        self._kept: dict[int, _Kept] = {}
        self._groups: list[list[int]] = []
        self._place: dict[int, tuple[int, int]] = {}  # row -> group, position in it
        if max_bytes > 0:
            self._lengths = token_lengths(encoder, data, max_length, True) or []
            self._form_groups(max_bytes)

    def _form_groups(self, max_bytes: int) -> None:
        """Which rows are kept: a function of their lengths alone, not of who asked first."""
        shape, lengths = self.encoder.shape, self._lengths
        number = shape.num_layers * shape.hidden_size * self.encoder.dtype.itemsize
        order = sorted(range(len(lengths)), key=lambda row: lengths[row])
        total = 0
        for start in range(0, len(order), _GROUP):
            group = order[start : start + _GROUP]
            total += len(group) * (lengths[group[-1]] + 1) * number
            if total > max_bytes:
                return
            self._place |= {row: (len(self._groups), i) for i, row in enumerate(group)}
            self._groups.append(group)

    @torch.no_grad()
    def __call__(self, rows: Sequence[int], needs: FrozenNeeds) -> ActivationCache:
        """Frozen activations of a batch of rows, in their order."""
        if not any(row in self._place for row in rows):
            return self.encoder.forward(self._tokens(rows), needs)
        hidden = needs.hidden | {j - 1 for j in needs.products}
        plain = FrozenNeeds(hidden, needs.pooled)
        cache = self._put_together(rows, plain)
        for j in needs.qkv:
            cache.qkv[j] = project_qkv(cache.hidden[j - 1], self.encoder.layer(j))
        for j in needs.products - needs.qkv:
            self.encoder.project_cls(cache, j, cache.hidden[j - 1], query=j in needs.cls_qkv)
        return cache

    def _tokens(self, rows: Sequence[int]) -> Any:
        texts = self.data.texts([self.data.train[row] for row in rows])
        return self.encoder.tokenize(texts, self.max_length)

    def _put_together(self, rows: Sequence[int], needs: FrozenNeeds) -> ActivationCache:
        lengths = [self._lengths[row] for row in rows]
        longest, size = max(lengths), self.encoder.shape.hidden_size
        like = {"dtype": self.encoder.dtype, "device": self.encoder.device}
        alone = needs.pooled - needs.hidden
        hidden = {j: torch.zeros(len(rows), longest, size, **like) for j in needs.hidden}
        pooled = {j: torch.zeros(len(rows), size, **like) for j in alone}
        others = [row for row in rows if row not in self._place]
        fresh = self._compute(others, needs) if others else None
        for i, (row, length) in enumerate(zip(rows, lengths)):
            if row in self._place:
                group, position = self._place[row]
                source = self._group(group, needs)
            else:
                assert fresh is not None
                source, position = fresh, others.index(row)
            for j, x in hidden.items():
                x[i, :length] = source.hidden[j][position, :length]
            for j, x in pooled.items():
                whole = source.hidden.get(j)
                x[i] = source.cls_rows[j][position] if whole is None else whole[position, 0]
        mask = None
        if min(lengths) < longest:
            ends = torch.tensor(lengths, device=self.encoder.device)
            mask = torch.arange(longest, device=self.encoder.device) < ends[:, None]
        return ActivationCache(mask, hidden, pooled)

    def _group(self, number: int, needs: FrozenNeeds) -> _Kept:
        """A group's activations; computed again if more of them is read than before."""
        kept = self._kept.get(number)
        if kept is not None:
            rows = needs.pooled - kept.cls_rows.keys()
            if needs.hidden <= kept.hidden.keys() and rows <= kept.hidden.keys():
                self.hits += 1
                return kept
            self.bytes -= _bytes(kept)
        self._needs = self._needs | needs
        kept = self._kept[number] = self._compute(self._groups[number], self._needs)
        self.bytes += _bytes(kept)
        return kept

    def _compute(self, rows: Sequence[int], needs: FrozenNeeds) -> _Kept:
        # Whole layers, even where the [CLS] row would do: the same bits whatever else is read.
        whole = FrozenNeeds(hidden=needs.hidden | needs.pooled)
        cache = self.encoder.forward(self._tokens(rows), whole)
        alone = needs.pooled - needs.hidden
        return _Kept(
            {j: cache.hidden[j] for j in needs.hidden}, {j: cache.pooled(j).clone() for j in alone}
        )


def _bytes(kept: _Kept) -> int:
    tensors = (*kept.hidden.values(), *kept.cls_rows.values())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
