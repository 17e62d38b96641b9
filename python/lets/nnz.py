"""How many delta weights each matrix of a task keeps: counted, or spread by density."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lets.errors import LetsError
from lets.policy import Policy
from lets.shape import EncoderShape


@dataclass(frozen=True)
class LayerNnz:
    """Non-zeros of one layer's deltas, per weight matrix."""

    query: int = 0
    key: int = 0
    value: int = 0
    out: int = 0
    up: int = 0
    down: int = 0

    def __add__(self, other: LayerNnz) -> LayerNnz:
        return LayerNnz(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def qkv(self) -> int:
        return self.query + self.key + self.value

    @property
    def tail(self) -> int:
        """Those of W_O, W_1 and W_2 (METHOD: nnz_O12)."""
        return self.out + self.up + self.down

    @property
    def total(self) -> int:
        return self.qkv + self.tail

    @classmethod
    def full(cls, shape: EncoderShape) -> LayerNnz:
        """Every weight: the sizes of the matrices themselves."""
        square = shape.hidden_size * shape.hidden_size
        wide = shape.hidden_size * shape.intermediate_size
        return cls(square, square, square, square, wide, wide)

    @classmethod
    def from_crow(cls, crow: Mapping[str, Any]) -> LayerNnz:
        """Counted from one layer's CSR row offsets: `qkv` [3H + 1], `out`, `up`, `down` [O + 1]."""
        bounds = [int(bound) for bound in crow["qkv"][:: (len(crow["qkv"]) - 1) // 3]]
        query, key, value = (end - begin for begin, end in itertools.pairwise(bounds))
        return cls(query, key, value, *(int(crow[name][-1]) for name in ("out", "up", "down")))


# By live layer; None: the layer has matrices of its own, not deltas (LeTS-(c)).
TaskNnz = Mapping[int, LayerNnz | None]


def kept_weights(density: float, num_weights: int) -> int:
    """k = density × number of masked weights, halves rounded up, never 0 of something."""
    if not 0.0 < density <= 1.0:
        raise LetsError(f"density must be in (0, 1], got {density}")
    return min(num_weights, max(1, math.floor(density * num_weights + 0.5)))


def spread(shape: EncoderShape, live_layers: Sequence[int], density: float) -> dict[int, LayerNnz]:
    """The k weights of a density shared out over the live layers' matrices in proportion to size.

    Pruning takes the k largest wherever they are; before it has run, proportion is the estimate.
    Matrix i gets floor(k·c_i/W) − floor(k·c_{i−1}/W), c_i the weights up to and with matrix i and
    W all of them: integers that sum to k, each within one of its exact share.
    """
    sizes = [getattr(LayerNnz.full(shape), field.name) for field in fields(LayerNnz)]
    num_weights = sum(sizes) * len(live_layers)
    kept = kept_weights(density, num_weights)
    shares, before, seen = [], 0, 0
    for size in sizes * len(live_layers):
        seen += size
        upto = kept * seen // num_weights
        shares.append(upto - before)
        before = upto
    width = len(sizes)
    return {
        layer: LayerNnz(*shares[i * width : (i + 1) * width]) for i, layer in enumerate(live_layers)
    }


def layer_nnz(shape: EncoderShape, density: float) -> LayerNnz:
    """One live layer's share, where the policy is not known yet (prices of the search)."""
    return spread(shape, [0], density)[0]


def policy_nnz(
    shape: EncoderShape, policy: Policy, density: float | TaskNnz | None
) -> dict[int, LayerNnz | None]:
    """Non-zeros of each live layer, from a density or checked and returned as they were counted.

    Args:
        density: None: every live layer is dense (LeTS-(c)).
    """
    if density is None:
        return dict.fromkeys(policy.live_layers)
    if not isinstance(density, Mapping):
        return dict(spread(shape, policy.live_layers, density))
    missing = sorted(set(policy.live_layers) - set(density))
    if missing:
        raise LetsError(f"cost: nnz must be given for every live layer, got none for {missing}")
    return {layer: density[layer] for layer in policy.live_layers}
