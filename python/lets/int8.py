"""Products with a frozen weight in 8-bit integers, for processors that multiply these faster.

Weights have a scale per output feature, activations one per row, taken when they come: so an answer
does not depend on the texts and tasks that it shares a batch with. Sums are exact, results fp32.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lets.errors import LetsError

_LARGEST = 127
_SMALLEST = 1e-12  # of a row or feature of zeros
_ZERO = 128  # oneDNN takes unsigned activations


@dataclass(frozen=True, eq=False)
class Int8Weight:
    """A weight [O, I] in place of the plain one.

    Args:
        values: Rounded to [-127, 127], in oneDNN's layout. int8
        scales: What 1 stands for. [O]
        zeros: Its zero points, all 0. int64 [O]
    """

    values: Tensor
    scales: Tensor
    zeros: Tensor

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.scales.shape[0], self.values.shape[0]))

    def num_bytes(self) -> int:
        vectors = sum(t.numel() * t.element_size() for t in (self.scales, self.zeros))
        return int(torch.ops.mkldnn._nbytes(self.values)) + vectors

    def plain(self) -> Tensor:
        """What it stands for in fp32. [O, I]"""
        return (self.values.to_dense().T * self.scales[:, None]).contiguous()


@functools.cache
def int8_available() -> bool:
    """Whether torch has oneDNN, and sums are exact on this processor.

    x86 without VNNI adds pairs of products in 16 bits, which are too few for large ones.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.onednn, "qlinear_prepack"):
        return False
    size = 64
    weight = _packed(torch.full((size, size), _LARGEST, dtype=torch.int8), torch.ones(size))
    try:
        found = int8_linear(torch.full((size, size), float(_LARGEST)), weight)
    except RuntimeError:
        return False
    return bool(found.eq(size * _LARGEST**2).all())


@torch.no_grad()
def quantize(weight: Tensor) -> Int8Weight:
    """The nearest integers, a scale per output feature. weight [O, I], fp32 on the CPU"""
    if weight.dtype is not torch.float32 or weight.device.type != "cpu" or not int8_available():
        raise LetsError(
            "int8: weights must be float32 on a CPU with VNNI and a torch that has oneDNN, got "
            f"{str(weight.dtype).removeprefix('torch.')} on {weight.device.type}"
        )
    scales = weight.abs().amax(dim=1).div_(_LARGEST).clamp_min_(_SMALLEST)
    rounded = (weight / scales[:, None]).round_().to(torch.int8)
    return _packed(rounded, scales)


def _packed(rounded: Tensor, scales: Tensor) -> Int8Weight:
    # It takes any strides, and reads those of a contiguous tensor.
    values = torch.ops.onednn.qlinear_prepack(rounded.contiguous(), None)
    return Int8Weight(values, scales, torch.zeros(len(scales), dtype=torch.int64))


def int8_linear(x: Tensor, weight: Int8Weight, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias, x rounded row by row. x [..., I] -> [..., O]"""
    rows = x.reshape(-1, x.shape[-1])
    if not rows.shape[0]:
        return x.new_zeros(*x.shape[:-1], weight.shape[0])
    largest = rows.abs().amax(dim=1, keepdim=True).clamp_min_(_SMALLEST)
    rounded = (rows * (_LARGEST / largest)).add_(_ZERO + 0.5).to(torch.uint8)
    op: Any = torch.ops.onednn.qlinear_pointwise
    out = op(
        rounded, 1.0, _ZERO, weight.values, weight.scales, weight.zeros,
        None, 1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
    scale = largest.div_(_LARGEST)
    out = out.mul_(scale) if bias is None else torch.addcmul(bias, out, scale, out=out)
    return out.view(*x.shape[:-1], -1)
