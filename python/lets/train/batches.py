"""Which rows form which batch: a pure function of (seed, epoch), so any step can be re-entered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil

import torch

from lets.errors import LetsError
from lets.train.seeds import generator

_POOL_BATCHES = (
    50  # rows are sorted by length inside pools of so many batches, as the hub's trainer does
)


class Batches:
    """Shuffled batches of row indices.

    Args:
        rows: Row numbers to draw from, or how many rows there are.
        batch_size: Rows per batch; the last batch of an epoch may be smaller.
        seed, name: Together they name the random stream.
        lengths: Token count per row number; given: batches group rows of similar length.
    """

    def __init__(
        self,
        rows: int | Sequence[int],
        batch_size: int,
        seed: int,
        name: str,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self.rows = list(range(rows)) if isinstance(rows, int) else list(rows)
        if not self.rows:
            raise LetsError(f"{name}: the training data must have at least one row, got none")
        self.batch_size, self.seed, self.name = batch_size, seed, name
        self.lengths = lengths
        self.per_epoch = ceil(len(self.rows) / batch_size)
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def at(self, step: int) -> list[int]:
        """Row numbers of the step-th batch since the start of training."""
        epoch, position = divmod(step, self.per_epoch)
        return self._epoch(epoch)[position]

    def steps(self, epochs: float) -> int:
        """Number of batches in so many epochs (at least one)."""
        return max(1, round(epochs * self.per_epoch))

    def _make_epoch(self, epoch: int) -> list[list[int]]:
        composed = self._compose(epoch)
        if self.lengths is None:
            return composed
        order = torch.randperm(
            len(composed), generator=generator(self.seed, self.name, "order", epoch)
        )
        return [composed[i] for i in order.tolist()]

    def _compose(self, epoch: int) -> list[list[int]]:
        shuffle = generator(self.seed, self.name, "rows", epoch)
        rows = [self.rows[i] for i in torch.randperm(len(self.rows), generator=shuffle).tolist()]
        if self.lengths is not None:
            pool = self.batch_size * _POOL_BATCHES
            pools = [rows[i : i + pool] for i in range(0, len(rows), pool)]
            lengths = self.lengths
            rows = [r for p in pools for r in sorted(p, key=lambda row: -lengths[row])]
        size = self.batch_size
        return [rows[i : i + size] for i in range(0, len(rows), size)]
