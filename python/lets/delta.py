"""SparseDelta: the canonical form of one matrix's W^δ, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lets.errors import LetsError
from lets.weights import LayerWeights
from lets_ext import DeltaLayout

MATRICES = ("qkv", "out", "up", "down")  # masked weight matrices of a layer

VALUE_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_COLUMN_LIMIT = 1 << 16  # columns are uint16 on disk


def matrix_shapes(weights: LayerWeights) -> dict[str, tuple[int, int]]:
    """(out_features, in_features) of the masked matrices."""
    shapes = {name: getattr(weights, f"{name}_weight").shape for name in MATRICES}
    return {name: (shape[0], shape[1]) for name, shape in shapes.items()}


@dataclass(frozen=True, eq=False)
class SparseDelta:
    """Non-zeros of one weight's W^δ.

    Args:
        layout: Where they are: CSR over [out_features, in_features], one task.
        values: What they are, in CSR order. [nnz]
    """

    layout: DeltaLayout
    values: Tensor

    def to_tensors(self, prefix: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """What a pack stores: at most 5 bytes a non-zero in half precision, 6 in float32."""
        if self.layout.in_features > _COLUMN_LIMIT:
            raise LetsError(
                f"{prefix}: in_features must be at most {_COLUMN_LIMIT}, "
                f"got {self.layout.in_features}"
            )
        return {
            f"{prefix}.crow_indices": self.layout.crow_indices,
            f"{prefix}.col_indices": self.layout.col_indices.to(torch.uint16),
            f"{prefix}.values": self.values.detach().to(dtype).contiguous(),
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], prefix: str, shape: tuple[int, int]
    ) -> SparseDelta:
        """Validate and rebuild; nothing unchecked reaches a kernel.

        Args:
            shape: (out_features, in_features) that the encoder's matrix has.

        Raises:
            LetsError: names the tensor, the row and the rule.
        """
        crow, col, values = (
            _part(tensors, f"{prefix}.{name}", dtypes)
            for name, dtypes in (
                ("crow_indices", (torch.int32,)),
                ("col_indices", (torch.uint16,)),
                ("values", VALUE_DTYPES),
            )
        )
        if crow.numel() != shape[0] + 1:
            raise LetsError(
                f"{prefix}.crow_indices must have {shape[0] + 1} entries (out_features + 1), "
                f"got {crow.numel()}"
            )
        if values.numel() != col.numel():
            raise LetsError(
                f"{prefix}.values must have one entry per column index ({col.numel()}), "
                f"got {values.numel()}"
            )
        if not bool(torch.isfinite(values).all()):
            position = int((~torch.isfinite(values)).nonzero()[0, 0])
            row = int(torch.searchsorted(crow, position, right=True)) - 1
            raise LetsError(
                f"{prefix}.values must be finite, got {values[position].item()} in row {row}"
            )
        try:
            layout = DeltaLayout.from_csr(crow, col.to(torch.int32), shape[1])
        except ValueError as error:
            raise LetsError(f"{prefix}: {error}") from error
        return cls(layout, values)


def _part(tensors: Mapping[str, Tensor], name: str, dtypes: tuple[torch.dtype, ...]) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None:
        raise LetsError(f"{name} is missing")
    if tensor.dim() != 1 or tensor.dtype not in dtypes:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise LetsError(
            f"{name} must be {names} with one dimension, got {tensor.dtype} {list(tensor.shape)}"
        )
    return tensor
