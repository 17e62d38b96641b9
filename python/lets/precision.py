"""Precisions of an encoder: their names, and how far apart right answers in them may be."""

from __future__ import annotations

import torch

from lets.errors import LetsError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
# Low precisions round every activation.
_TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
# 8-bit integers change answers: this catches a wrong graph or pack.
INT8_TOLERANCE = 0.25


def named_dtype(name: str, verb: str) -> torch.dtype:
    """float32, bfloat16 or float16; also fp32, bf16, fp16.

    Args:
        verb: Of the command line, for the message.
    """
    dtype = _DTYPES.get(_SHORT.get(name, name))
    if dtype is None:
        raise LetsError(f"{verb}: dtype must be one of {', '.join(_DTYPES)}, got {name!r}")
    return dtype


def tolerance(dtype: torch.dtype, quantization: str | None = None) -> float:
    """How far two right evaluations may be apart, per (1 + |logit|)."""
    return _TOLERANCES[dtype] if quantization is None else INT8_TOLERANCE
