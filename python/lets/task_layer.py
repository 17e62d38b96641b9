"""TaskLayer: what one task trains of one layer, as parameters that start at the frozen encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lets.delta import MATRICES, SparseDelta, matrix_shapes
from lets.errors import LetsError
from lets.layers import TAIL_VECTORS, FrozenLayer, OwnLayer
from lets_ext import Delta, DeltaLayout

# Parameters are the changes; layers get whole vectors of the tail. There is no key bias, to which
# softmax is blind.
VECTOR_DELTAS = (
    "query_bias_delta",
    "value_bias_delta",
    *(f"{name}_delta" for name in TAIL_VECTORS),
)


class TaskLayer(nn.Module):
    """Sparse changes of the matrices at fixed masks, dense changes of biases and LayerNorms.

    Args:
        frozen: The encoder's layer that the task starts from.
        masks: For each of `qkv`, `out`, `up`, `down`: a layout, or a mask, bool [O, I]. A missing
            one is empty.
        cls_only: Whether the layer runs as `p-cls` or `f-cls`, which take Q, K and V apart.
    """

    qkv_values: Tensor
    query_bias_delta: Tensor
    value_bias_delta: Tensor

    def __init__(
        self,
        frozen: FrozenLayer,
        masks: Mapping[str, DeltaLayout | Tensor],
        cls_only: bool = False,
    ) -> None:
        super().__init__()
        self.frozen, self.cls_only = frozen, cls_only
        unknown = sorted(set(masks) - set(MATRICES))
        if unknown:
            raise LetsError(f"masks must be of {', '.join(MATRICES)}, got {', '.join(unknown)}")
        weights = frozen.weights
        self.layouts: dict[str, DeltaLayout] = {}
        for name, shape in matrix_shapes(weights).items():
            layout = _as_layout(masks.get(name), shape, name).to(weights.out_bias.device)
            self.layouts[name] = layout
            values = nn.Parameter(weights.out_bias.new_zeros(layout.nnz))
            self.register_parameter(f"{name}_values", values)
        for name in VECTOR_DELTAS:
            length = _vector_length(frozen, name)
            self.register_parameter(name, nn.Parameter(weights.out_bias.new_zeros(length)))
        self._projections = _split_projections(self.layouts["qkv"]) if cls_only else None

    def delta(self, matrix: str) -> Delta:
        return Delta(self.layouts[matrix], getattr(self, f"{matrix}_values"))

    def own(self) -> OwnLayer:
        """The layer as `lets.layers` takes it, with T = 1; differentiable in the parameters."""
        weights = self.frozen.weights
        vectors: dict[str, Any] = {
            name: (getattr(weights, name) + getattr(self, f"{name}_delta"))[None]
            for name in TAIL_VECTORS
        }
        tail: dict[str, Any] = {name: self.delta(name) for name in ("out", "up", "down")}
        query_bias, value_bias = self.query_bias_delta, self.value_bias_delta
        if self._projections is None:
            zeros = torch.zeros_like(query_bias)
            bias = torch.cat([query_bias, zeros, value_bias])[None]
            return OwnLayer(**vectors, **tail, qkv=self.delta("qkv"), qkv_bias_delta=bias)
        layouts, sizes = self._projections
        values = self.qkv_values.split(sizes)
        names = ("query", "key", "value")
        parts: dict[str, Any] = dict(zip(names, map(Delta, layouts, values)))
        return OwnLayer(
            **vectors,
            **tail,
            **parts,
            query_bias_delta=query_bias[None],
            value_bias_delta=value_bias[None],
        )

    def load(self, deltas: Mapping[str, SparseDelta], vectors: Mapping[str, Tensor]) -> None:
        """Take over values (the layouts must be those of the masks) and vectors."""
        with torch.no_grad():
            for name, delta in deltas.items():
                getattr(self, f"{name}_values").copy_(delta.values)
            for name, vector in vectors.items():
                getattr(self, name).copy_(vector)


def _vector_length(frozen: FrozenLayer, name: str) -> int:
    if name in ("query_bias_delta", "value_bias_delta"):
        return frozen.hidden_size
    return getattr(frozen.weights, name.removesuffix("_delta")).shape[0]


def _split_projections(qkv: DeltaLayout) -> tuple[list[DeltaLayout], list[int]]:
    """Layouts of Q, K and V; in CSR order their values follow one another."""
    hidden = qkv.in_features
    layouts = [qkv.rows(begin, begin + hidden) for begin in range(0, 3 * hidden, hidden)]
    return layouts, [layout.nnz for layout in layouts]


def _as_layout(mask: DeltaLayout | Tensor | None, shape: tuple[int, int], name: str) -> DeltaLayout:
    if mask is None:
        return DeltaLayout.from_mask(torch.zeros(shape, dtype=torch.bool))
    layout = mask if isinstance(mask, DeltaLayout) else DeltaLayout.from_mask(mask)
    if (layout.out_features, layout.in_features) != shape or layout.num_tasks != 1:
        raise LetsError(
            f"mask of {name} must be of one task and shape {list(shape)}, got "
            f"{layout.num_tasks} x [{layout.out_features}, {layout.in_features}]"
        )
    return layout
