"""Sparse deltas of T tasks: where the non-zeros are (`DeltaLayout`) and what they are (`Delta`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lets_ext._load import host


@dataclass(frozen=True, eq=False)
class DeltaLayout:
    """Positions of the non-zeros of T deltas of shape [O, I]: CSR of [T*O, I] and its transpose.

    Built and validated once, by `from_csr` or one of its sisters; values live apart, in `Delta`.

    Args:
        crow_indices: Row offsets. int32 [T*O + 1]
        col_indices: Input feature of each entry, strictly increasing in a row. int32 [nnz]
        ccol_indices: Offsets of the transposed structures [I, O], task after task. int32 [T*I + 1]
        row_indices: Output feature (within its task) of each transposed entry. int32 [nnz]
        permutation: Position in CSR order of each transposed entry. int32 [nnz]
    """

    crow_indices: Tensor
    col_indices: Tensor
    ccol_indices: Tensor
    row_indices: Tensor
    permutation: Tensor
    num_tasks: int
    out_features: int
    in_features: int

    @property
    def nnz(self) -> int:
        """Number of entries of all tasks."""
        return self.col_indices.shape[0]

    @classmethod
    def from_csr(
        cls, crow_indices: Tensor, col_indices: Tensor, in_features: int, num_tasks: int = 1
    ) -> DeltaLayout:
        """Validate a CSR structure of [T*O, I] and build its transpose.

        Raises:
            ValueError: names the row and the rule it breaks.
        """
        crow = _to_numpy(crow_indices, "crow_indices")
        col = _to_numpy(col_indices, "col_indices")
        rows = len(crow) - 1
        if num_tasks < 1 or rows < 0 or rows % num_tasks:
            raise ValueError(
                f"delta layout: crow_indices must have num_tasks * out_features + 1 entries, "
                f"got {len(crow)} for num_tasks = {num_tasks}"
            )
        out_features = rows // num_tasks
        transposed = host().transpose_csr(crow, col, num_tasks, out_features, in_features)
        crow_t, col_t, ccol_t, row_t, permutation_t = (
            torch.from_numpy(a).to(col_indices.device) for a in (crow, col, *transposed)
        )
        return cls(
            crow_t, col_t, ccol_t, row_t, permutation_t, num_tasks, out_features, in_features
        )

    @classmethod
    def from_mask(cls, mask: Tensor) -> DeltaLayout:
        """Layout of the True entries of a mask. bool [O, I] or [T, O, I]"""
        if mask.dtype != torch.bool or mask.dim() not in (2, 3):
            raise ValueError(
                "delta layout: mask must be bool [O, I] or [T, O, I], "
                f"got {mask.dtype} {list(mask.shape)}"
            )
        num_tasks = mask.shape[0] if mask.dim() == 3 else 1
        flat = mask.reshape(num_tasks * mask.shape[-2], mask.shape[-1])
        crow = torch.zeros(flat.shape[0] + 1, dtype=torch.int32, device=mask.device)
        torch.cumsum(flat.sum(1), 0, out=crow[1:])
        col = flat.nonzero()[:, 1].to(torch.int32)
        return cls.from_csr(crow, col, mask.shape[-1], num_tasks)

    @classmethod
    def stack(cls, layouts: Sequence[DeltaLayout]) -> DeltaLayout:
        """One layout for the tasks of several layouts of equal shape, in order."""
        if not layouts:
            raise ValueError("delta layout: stack needs at least one layout")
        shapes = {(layout.out_features, layout.in_features) for layout in layouts}
        if len(shapes) > 1:
            raise ValueError(
                f"delta layout: stacked layouts must have one shape, got {sorted(shapes)}"
            )
        starts = np.cumsum([0, *(layout.nnz for layout in layouts)]).tolist()
        if starts[-1] > torch.iinfo(torch.int32).max:
            raise ValueError(f"delta layout: nnz must fit int32, got {starts[-1]}")

        def offsets(name: str) -> Tensor:
            parts = [getattr(layouts[0], name)[:1]]
            parts += [getattr(layout, name)[1:] + start for layout, start in zip(layouts, starts)]
            return torch.cat(parts)

        return cls(
            offsets("crow_indices"),
            torch.cat([layout.col_indices for layout in layouts]),
            offsets("ccol_indices"),
            torch.cat([layout.row_indices for layout in layouts]),
            torch.cat([layout.permutation + start for layout, start in zip(layouts, starts)]),
            sum(layout.num_tasks for layout in layouts),
            layouts[0].out_features,
            layouts[0].in_features,
        )

    def rows(self, begin: int, end: int) -> DeltaLayout:
        """Layout of the output rows [begin, end) of one task, e.g. Q out of a fused QKV."""
        if self.num_tasks != 1:
            raise ValueError(f"delta layout: rows needs a layout of one task, got {self.num_tasks}")
        if not 0 <= begin <= end <= self.out_features:
            raise ValueError(
                f"delta layout: rows must be in [0, {self.out_features}], got [{begin}, {end})"
            )
        crow = self.crow_indices[begin : end + 1]
        col = self.col_indices[int(crow[0]) : int(crow[-1])]
        return DeltaLayout.from_csr(crow - crow[0], col, self.in_features)

    def tasks(self, begin: int, end: int) -> DeltaLayout:
        """Layout of the tasks [begin, end) of a stack; columns are views."""
        if not 0 <= begin < end <= self.num_tasks:
            raise ValueError(
                f"delta layout: tasks must be in [0, {self.num_tasks}], got [{begin}, {end})"
            )
        crow = self.crow_indices[begin * self.out_features : end * self.out_features + 1]
        first, last = int(crow[0]), int(crow[-1])
        own = slice(first, last)
        # Without a transpose (forward_only) its slices are empty, too.
        ccol = self.ccol_indices[begin * self.in_features : end * self.in_features + 1]
        return DeltaLayout(
            crow - first,
            self.col_indices[own],
            ccol - first,
            self.row_indices[own],
            self.permutation[own] - first,
            end - begin,
            self.out_features,
            self.in_features,
        )

    def forward_only(self) -> DeltaLayout:
        """The same positions without their transpose, which only backward reads."""
        empty = self.col_indices.new_empty(0)
        return replace(self, ccol_indices=empty, row_indices=empty, permutation=empty)

    def to(self, device: torch.device | str) -> DeltaLayout:
        """The same layout with its index tensors on `device`."""
        return replace(
            self,
            crow_indices=self.crow_indices.to(device),
            col_indices=self.col_indices.to(device),
            ccol_indices=self.ccol_indices.to(device),
            row_indices=self.row_indices.to(device),
            permutation=self.permutation.to(device),
        )


class Delta(NamedTuple):
    """T sparse deltas: a layout and its values [nnz], in CSR order, in the dtype of activations."""

    layout: DeltaLayout
    values: Tensor

    def tasks(self, begin: int, end: int) -> Delta:
        """The deltas of the tasks [begin, end) of a stack; values and columns are views."""
        layout, rows = self.layout, self.layout.out_features
        first, last = (int(self.layout.crow_indices[t * rows]) for t in (begin, end))
        return Delta(layout.tasks(begin, end), self.values[first:last])

    def to_dense(self) -> Tensor:
        """The deltas as dense matrices, differentiable in the values. [T, O, I]"""
        layout = self.layout
        counts = layout.crow_indices.diff()
        rows = torch.repeat_interleave(counts, output_size=layout.nnz)
        flat = rows.long() * layout.in_features + layout.col_indices
        shape = (layout.num_tasks, layout.out_features, layout.in_features)
        zeros = self.values.new_zeros(layout.num_tasks * layout.out_features * layout.in_features)
        return zeros.scatter(0, flat, self.values).view(shape)


def _to_numpy(indices: Tensor, name: str) -> np.ndarray:
    if indices.dim() != 1 or indices.dtype not in (torch.int32, torch.int64, torch.uint16):
        raise ValueError(
            f"delta layout: {name} must be int32 [n], got {indices.dtype} {list(indices.shape)}"
        )
    array = indices.detach().cpu().numpy()
    if indices.dtype == torch.int64 and len(array) and not -1 <= array.min() <= array.max() < 2**31:
        raise ValueError(f"delta layout: {name} must fit int32, got {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, dtype=np.int32)
