"""cls_tail of several independent layers at once: one launch on a GPU, each weight read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lets_ext._devices import check_devices
from lets_ext._load import LOADED, require_ops
from lets_ext.cls_tail import check_deltas, cls_tail_ref
from lets_ext.layout import Delta

_NAME = "cls_tail_layers"
_MATRICES = ("out", "up", "down")
_VECTORS = (
    "out_bias", "attn_norm_weight", "attn_norm_bias", "up_bias", "down_bias", "norm_weight",
    "norm_bias",
)  # fmt: skip
_REQUIRED = {"ctx", "residual", *(f"{name}_weight" for name in _MATRICES), *_VECTORS}
_OPTIONAL = {f"{name}_delta" for name in _MATRICES}


def cls_tail_layers(layers: Sequence[Mapping[str, Any]], *, eps: float = 1e-12) -> list[Tensor]:
    """Finish several layers that do not need each other's results, as `cls_tail` does one.

    For answering only: no gradients. Layers share H, F and dtype; their tasks and rows may differ.

    Args:
        layers: The arguments of `cls_tail` for each layer, by name (but for eps).
        eps: Of all layer norms.

    Returns:
        [T, M, H] of each layer.
    """
    require_ops()
    if not layers:
        raise ValueError(f"{_NAME}: layers must not be empty")
    for i, layer in enumerate(layers):
        _check(i, layer)
    deltas = [
        tensor
        for layer in layers
        for name in _MATRICES
        for tensor in _parts(layer.get(f"{name}_delta"), layer["ctx"])
    ]
    return torch.ops.lets_ext.cls_tail_layers.default(
        [layer["ctx"] for layer in layers],
        [layer["residual"] for layer in layers],
        [layer[f"{name}_weight"] for layer in layers for name in _MATRICES],
        [layer[name] for layer in layers for name in _VECTORS],
        deltas,
        eps,
    )


def cls_tail_layers_ref(layers: Sequence[Mapping[str, Any]], *, eps: float = 1e-12) -> list[Tensor]:
    """`cls_tail_layers` in plain torch."""
    return [cls_tail_ref(**layer, eps=eps) for layer in layers]


def _check(i: int, layer: Mapping[str, Any]) -> None:
    names = set(layer)
    if not _REQUIRED <= names <= _REQUIRED | _OPTIONAL:
        wrong = sorted(_REQUIRED - names) or sorted(names - _REQUIRED - _OPTIONAL)
        raise ValueError(f"{_NAME}: layer {i} must have the arguments of cls_tail, see {wrong}")
    if torch.is_grad_enabled():
        tensors = (v.values if isinstance(v, Delta) else v for v in layer.values())
        if any(isinstance(t, Tensor) and t.requires_grad for t in tensors):
            raise ValueError(
                f"{_NAME}: layer {i} must not require gradients; use cls_tail, or torch.no_grad()"
            )
    check_deltas(_NAME, layer["ctx"], {
        name: (layer[f"{name}_weight"], layer.get(f"{name}_delta")) for name in _MATRICES
    })  # fmt: skip


def _parts(delta: Any, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if delta is not None:
        return delta.values, delta.layout.crow_indices, delta.layout.col_indices
    index = like.new_empty(0, dtype=torch.int32)
    return like.new_empty(0), index, index


def _fake(ctx, residual, weights, vectors, deltas, eps):
    check_devices(_NAME, ctx[0], *ctx, *residual, *weights, *vectors, *deltas)
    return [torch.empty_like(c, memory_format=torch.contiguous_format) for c in ctx]


if LOADED:
    torch.library.register_fake("lets_ext::cls_tail_layers", _fake)
