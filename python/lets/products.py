"""The product with a frozen weight: packed once for oneDNN where it is there, or plain torch.

A packed weight takes the place of the plain one and as much memory, in 8-bit integers a quarter. It
has no gradients: where they are asked for it is unpacked, which training on an encoder of its own
never needs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lets.int8 import Int8Weight, int8_available, int8_linear, quantize
from lets_ext import bias_gelu

Weight = Tensor | Int8Weight

_SUPPORTED = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}


def can_pack(dtype: torch.dtype, device: torch.device | str = "cpu") -> bool:
    """Whether packed products of this precision run here, and not only in emulation."""
    if torch.device(device).type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if dtype is torch.float32:
        return True
    return dtype in _SUPPORTED and bool(getattr(torch.ops.mkldnn, _SUPPORTED[dtype])())


def can_round(dtype: torch.dtype, device: torch.device | str = "cpu") -> bool:
    """The same of products in 8-bit integers."""
    return dtype is torch.float32 and torch.device(device).type == "cpu" and int8_available()


@torch.no_grad()
def pack(weight: Tensor) -> Tensor:
    """The weight [O, I] in oneDNN's own layout, or as it is where there is none."""
    if is_packed(weight) or not can_pack(weight.dtype, weight.device):
        return weight
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def pack_like(weight: Weight, other: Weight) -> Weight:
    """The weight in the form of another one."""
    if isinstance(weight, Int8Weight):
        return weight
    return quantize(weight) if isinstance(other, Int8Weight) else pack(weight)


def is_packed(weight: Weight) -> bool:
    """Whether it is no plain tensor."""
    return isinstance(weight, Int8Weight) or weight.is_mkldnn


def plain(weight: Weight) -> Tensor:
    """The weight as `nn.Linear` has it; a copy if it is packed. [O, I]"""
    if isinstance(weight, Int8Weight):
        return weight.plain()
    return weight.to_dense() if weight.is_mkldnn else weight


def num_bytes(weight: Weight) -> int:
    if isinstance(weight, Int8Weight):
        return weight.num_bytes()
    if weight.is_mkldnn:  # with what the layout pads
        return int(torch.ops.mkldnn._nbytes(weight))
    return weight.numel() * weight.element_size()


def linear(x: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """`F.linear` with a weight that may be packed. x [..., I] -> [..., O]"""
    if not is_packed(weight) or _wants_gradient(x):
        return F.linear(x, plain(weight), bias)
    if isinstance(weight, Int8Weight):
        return int8_linear(x, weight, bias)
    return _packed_linear(x, weight, bias, "none")


def linear_gelu(x: Tensor, weight: Weight, bias: Tensor) -> Tensor:
    """gelu(x · weightᵀ + bias), exact erf; one pass where the weight is packed.

    x [1, N, I], bias [1, O] -> [1, N, O]
    """
    if isinstance(weight, Tensor) and is_packed(weight) and not _wants_gradient(x):
        return _packed_linear(x, weight, bias[0], "gelu")
    return bias_gelu(linear(x, weight), bias)


def _wants_gradient(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


def _packed_linear(x: Tensor, weight: Tensor, bias: Tensor | None, after: str) -> Tensor:
    op: Any = torch.ops.mkldnn._linear_pointwise
    return op(x, weight, bias, after, [], "none" if after == "gelu" else "")
