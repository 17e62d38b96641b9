"""Masks that pruning found, on disk: where a task may change the encoder, and the trial delta."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lets.delta import MATRICES, SparseDelta, matrix_shapes
from lets.errors import LetsError
from lets.train.checkpoint import load_tensors, save_tensors
from lets.train.topk import streaming_topk
from lets_ext import DeltaLayout

# By layer, by matrix. The values are W̃^δ at the mask: where fine-tuning may start from.
Masks = dict[int, dict[str, SparseDelta]]


def at_positions(positions: Tensor, matrix: Tensor) -> SparseDelta:
    """A matrix's values at flat row-major positions, strictly ascending. int64 [nnz], [O, I]"""
    rows, columns = matrix.shape
    counts = torch.bincount(positions // columns, minlength=rows)
    crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)
    col = (positions % columns).to(torch.int32)
    layout = DeltaLayout.from_csr(crow.cpu(), col.cpu(), columns)
    return SparseDelta(layout, matrix.flatten()[positions].cpu())


def keep_largest(
    matrices: Callable[[], Iterable[tuple[str, Tensor, Tensor]]],
    score: Callable[[Tensor, Tensor], Tensor],
    kept: int,
) -> tuple[Masks, float]:
    """The masks of the largest scores over all matrices, and the sum of all scores (Eqs. 4, 5).

    Args:
        matrices: Gives (layers.<j>.<matrix>, weight, delta) of each matrix, one at a time, twice.
        score: (weight, delta) → scores of the delta's shape, not negative.
    """
    total = 0.0

    def scores() -> Iterator[tuple[str, Tensor]]:
        nonlocal total
        for name, weight, delta in matrices():
            found = score(weight, delta)
            total += float(found.double().sum())
            yield name, found

    positions = streaming_topk(scores(), kept)
    masks: Masks = {}
    for name, _, delta in matrices():
        _, layer, matrix = name.split(".")
        masks.setdefault(int(layer), {})[matrix] = at_positions(positions[name], delta)
    return masks, total


def layouts_of(masks: Masks) -> dict[int, dict[str, DeltaLayout]]:
    """The form that task layers take."""
    return {j: {name: d.layout for name, d in layer.items()} for j, layer in masks.items()}


def total_nnz(masks: Masks) -> int:
    return sum(delta.layout.nnz for layer in masks.values() for delta in layer.values())


def save_masks(path: Path, masks: Masks) -> None:
    """Write masks in the canonical form of deltas, in one safetensors file."""
    named: dict[str, Tensor] = {}
    for j, layer in masks.items():
        for name, delta in layer.items():
            named |= delta.to_tensors(f"layers.{j}.{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, named)


def load_masks(path: str | Path, encoder: Any) -> Masks:
    """Read masks and validate them against an encoder; the error names file and matrix."""
    path = Path(path)
    named = load_tensors(path)
    found = set()
    for name in named:
        match = re.fullmatch(r"layers\.(\d{1,4})\.\w+\.\w+", name)
        if match is None or int(match[1]) >= len(encoder.layers):
            raise LetsError(f"{path}: {name} is no part of a mask of {encoder.source}")
        found.add(int(match[1]))
    try:
        return {
            j: {
                name: SparseDelta.from_tensors(named, f"layers.{j}.{name}", shape)
                for name, shape in matrix_shapes(encoder.layers[j]).items()
                if name in MATRICES
            }
            for j in sorted(found)
        }
    except LetsError as error:
        raise LetsError(f"{path}: {error}") from None
