"""delta_qkv: the sparse deltas of Q, K and V on the cached QKV of the frozen encoder."""

from __future__ import annotations

from torch import Tensor

from lets_ext.delta_linear import delta_linear, delta_linear_ref
from lets_ext.layout import Delta


def delta_qkv(base: Tensor, x: Tensor, delta: Delta, bias: Tensor | None = None) -> Tensor:
    """Compute the QKV of T tasks from the cached QKV of the frozen encoder (METHOD section 4).

    The same product as `delta_linear`, whose dispatcher op it calls, with O = 3 * I.

    Args:
        base: Cached QKV of the frozen encoder. [1|T, N, 3H]
        x: Input of the layer. [1|T, N, H]
        delta: Sparse deltas of the fused QKV weight. T x [3H, H]
        bias: Change of the QKV bias. [T, 3H]

    Returns:
        [T, N, 3H]
    """
    _check(delta)
    return delta_linear(base, x, delta, bias)


def delta_qkv_ref(base: Tensor, x: Tensor, delta: Delta, bias: Tensor | None = None) -> Tensor:
    """`delta_qkv` in plain torch."""
    _check(delta)
    return delta_linear_ref(base, x, delta, bias)


def _check(delta: Delta) -> None:
    out_features, in_features = delta.layout.out_features, delta.layout.in_features
    if out_features != 3 * in_features:
        raise ValueError(
            f"delta_qkv: delta must have shape [3H, H], got [{out_features}, {in_features}]"
        )
