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
        fixed: The same batches in every epoch, only their order is shuffled (so that what a
            batch's frozen layers compute can be kept between epochs, bit for bit).
    """

    def __init__(
        self,
        rows: int | Sequence[int],
        batch_size: int,
        seed: int,
        name: str,
        lengths: Sequence[int] | None = None,
        fixed: bool = False,
    ) -> None:
        self.rows = list(range(rows)) if isinstance(rows, int) else list(rows)
        if not self.rows:
            raise LetsError(f"{name}: the training data must have at least one row, got none")
        self.batch_size, self.seed, self.name = batch_size, seed, name
        self.lengths, self.fixed = lengths, fixed
        self.per_epoch = ceil(len(self.rows) / batch_size)
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def at(self, step: int) -> list[int]:
        """Row numbers of the step-th batch since the start of training."""
        epoch, position = divmod(step, self.per_epoch)
        return self._epoch(epoch)[position]

    def key_at(self, step: int) -> int | None:
        """A number that names the batch's rows across epochs, or None when rows are reshuffled."""
        if not self.fixed:
            return None
        return self.at(step)[0]

    def steps(self, epochs: float) -> int:
        """Number of batches in so many epochs (at least one)."""
        return max(1, round(epochs * self.per_epoch))

    def _make_epoch(self, epoch: int) -> list[list[int]]:
        composed = self._compose(0 if self.fixed else epoch)
        order = torch.randperm(
            len(composed), generator=generator(self.seed, self.name, "order", epoch)
        )
        return [composed[i] for i in order.tolist()] if self._reorder(epoch) else composed

    def _reorder(self, epoch: int) -> bool:
        return self.lengths is not None or (self.fixed and epoch > 0)

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
