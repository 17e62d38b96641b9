"""What one task trains of one layer, as parameters that start at the frozen encoder.

`TaskLayer`: sparse changes of the matrices. `DenseTaskLayer` (LeTS-(c)): whole matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lets.delta import MATRICES, SparseDelta, matrix_shapes
from lets.errors import LetsError
from lets.layers import TAIL_VECTORS, FrozenLayer, OwnLayer
from lets.weights import LayerWeights
from lets_ext import Delta, DeltaLayout

# Parameters are the changes; layers get whole vectors of the tail. There is no key bias, to which
# softmax is blind.
VECTOR_DELTAS = (
    "query_bias_delta",
    "value_bias_delta",
    *(f"{name}_delta" for name in TAIL_VECTORS),
)


class _OwnVectors(nn.Module):
    """Changes of a layer's biases and LayerNorms, which every kind of task trains."""

    query_bias_delta: Tensor
    value_bias_delta: Tensor

    def __init__(self, frozen: FrozenLayer) -> None:
        super().__init__()
        self.frozen = frozen
        for name in VECTOR_DELTAS:
            length = _vector_length(frozen, name)
            zeros = frozen.weights.out_bias.new_zeros(length)
            self.register_parameter(name, nn.Parameter(zeros))

    @property
    def qkv_bias_delta(self) -> Tensor:
        """That of the stacked projections; the keys' is 0. [3H]"""
        zeros = torch.zeros_like(self.query_bias_delta)
        return torch.cat([self.query_bias_delta, zeros, self.value_bias_delta])

    def tail_vectors(self) -> dict[str, Tensor]:
        """Frozen vector plus change of everything after the attention."""
        weights = self.frozen.weights
        return {
            name: getattr(weights, name) + getattr(self, f"{name}_delta") for name in TAIL_VECTORS
        }

    @torch.no_grad()
    def take(self, named: Mapping[str, Tensor]) -> None:
        """Set parameters to copies of tensors of their names."""
        for name, tensor in named.items():
            getattr(self, name).copy_(tensor)


class TaskLayer(_OwnVectors):
    """Sparse changes of the matrices at fixed masks, dense changes of biases and LayerNorms.

    Args:
        frozen: The encoder's layer that the task starts from.
        masks: For each of `qkv`, `out`, `up`, `down`: a layout, or a mask, bool [O, I]. A missing
            one is empty.
        cls_only: Whether the layer runs as `p-cls` or `f-cls`, which take Q, K and V apart.
    """

    qkv_values: Tensor

    def __init__(
        self,
        frozen: FrozenLayer,
        masks: Mapping[str, DeltaLayout | Tensor],
        cls_only: bool = False,
    ) -> None:
        super().__init__(frozen)
        self.cls_only = cls_only
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
        self._projections = _split_projections(self.layouts["qkv"]) if cls_only else None

    def delta(self, matrix: str) -> Delta:
        return Delta(self.layouts[matrix], getattr(self, f"{matrix}_values"))

    def own(self) -> OwnLayer:
        """The layer as `lets.layers` takes it, with T = 1; differentiable in the parameters."""
        vectors: dict[str, Any] = {name: v[None] for name, v in self.tail_vectors().items()}
        tail: dict[str, Any] = {name: self.delta(name) for name in ("out", "up", "down")}
        if self._projections is None:
            bias = self.qkv_bias_delta[None]
            return OwnLayer(**vectors, **tail, qkv=self.delta("qkv"), qkv_bias_delta=bias)
        layouts, sizes = self._projections
        values = self.qkv_values.split(sizes)
        names = ("query", "key", "value")
        parts: dict[str, Any] = dict(zip(names, map(Delta, layouts, values)))
        return OwnLayer(
            **vectors,
            **tail,
            **parts,
            query_bias_delta=self.query_bias_delta[None],
            value_bias_delta=self.value_bias_delta[None],
        )

    def merged(self) -> FrozenLayer:
        """The layer with W^p + W^δ in full; differentiable in the parameters."""
        weights = self.frozen.weights.plain()
        changes = {name: self.delta(name).to_dense()[0] for name in MATRICES}
        matrices = {f"{n}_weight": getattr(weights, f"{n}_weight") + d for n, d in changes.items()}
        return _complete(self, matrices)

    def load(self, deltas: Mapping[str, SparseDelta], vectors: Mapping[str, Tensor]) -> None:
        """Take over values (the layouts must be those of the masks) and vectors."""
        self.take({f"{name}_values": delta.values for name, delta in deltas.items()})
        self.take(vectors)


class DenseTaskLayer(_OwnVectors):
    """Whole matrices W^f, and the same changes of biases and LayerNorms as in a sparse layer.

    Args:
        frozen: The encoder's layer that the task starts from; its matrices are copied.
    """

    def __init__(self, frozen: FrozenLayer) -> None:
        super().__init__(frozen)
        weights = frozen.weights.plain()
        for name in MATRICES:
            weight = getattr(weights, f"{name}_weight").detach().clone()
            self.register_parameter(f"{name}_dense", nn.Parameter(weight))

    def merged(self) -> FrozenLayer:
        """The layer as `lets.layers` takes a frozen one; differentiable in the parameters."""
        return _complete(
            self, {f"{name}_weight": getattr(self, f"{name}_dense") for name in MATRICES}
        )

    def load(self, matrices: Mapping[str, Tensor], vectors: Mapping[str, Tensor]) -> None:
        """Take over W^f and the vectors."""
        self.take({f"{name}_dense": matrix for name, matrix in matrices.items()})
        self.take(vectors)


def _complete(layer: _OwnVectors, matrices: dict[str, Tensor]) -> FrozenLayer:
    weights = layer.frozen.weights
    own = LayerWeights(
        **matrices, **layer.tail_vectors(), qkv_bias=weights.qkv_bias + layer.qkv_bias_delta
    )
    return replace(layer.frozen, weights=own, plain_qkv_weight=None)


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
