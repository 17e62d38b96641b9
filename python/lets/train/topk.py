"""Exact global top-k over matrices that are looked at one after the other."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lets.errors import LetsError


def streaming_topk(scores: Iterable[tuple[str, Tensor]], k: int) -> dict[str, Tensor]:
    """Positions of the k largest scores over all matrices (METHOD Eq. 5).

    Ties go to the lower index (earlier matrix, then row-major position), so the result is unique.
    Dropping what loses inside the part seen so far is exact: k seen elements already beat it.

    Args:
        scores: (name, scores of any shape) pairs; each tensor is only looked at once.
        k: How many to keep; all of them when there are fewer.

    Returns:
        Per name the kept flat positions, ascending. int64 [kept]
    """
    names: list[str] = []
    best = torch.empty(0)
    owner = position = torch.empty(0, dtype=torch.int64)
    for number, (name, matrix) in enumerate(scores):
        names.append(name)
        flat = matrix.detach().flatten()
        if not bool(torch.isfinite(flat).all()):
            raise LetsError(f"prune: scores of {name} must be finite; lower the learning rate")
        if k <= 0 or flat.numel() == 0:
            continue
        if best.numel() < k:
            index = torch.arange(flat.numel(), device=flat.device)
        else:  # an equal score of a later matrix loses
            index = torch.nonzero(flat > best.min()).flatten()
        best = torch.cat([best.to(flat), flat[index]])
        owner = torch.cat([owner.to(flat.device), torch.full_like(index, number)])
        position = torch.cat([position.to(flat.device), index])
        keep = _first_largest(best, k)
        best, owner, position = best[keep], owner[keep], position[keep]
    return {name: position[owner == number] for number, name in enumerate(names)}


def _first_largest(values: Tensor, k: int) -> Tensor:
    """Indices (ascending) of the k largest values, equal ones by lower index."""
    if values.numel() <= k:
        return torch.arange(values.numel(), device=values.device)
    threshold = torch.topk(values, k, sorted=False).values.min()
    keep = values > threshold
    equal = torch.nonzero(values == threshold).flatten()[: k - int(keep.sum())]
    keep[equal] = True
    return torch.nonzero(keep).flatten()
