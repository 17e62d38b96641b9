"""Gradients of vectors per task: sums over tokens, and over the tasks that share a vector."""

from __future__ import annotations

import torch
from torch import Tensor

SPLIT_TOKENS = 32  # kSplitTokens of csrc/kernels/column_splits.h


def num_splits(num_tokens: int) -> int:
    """Partial sums that the kernels return for so many tokens."""
    return (num_tokens + SPLIT_TOKENS - 1) // SPLIT_TOKENS


def accumulator(x: Tensor) -> torch.dtype:
    """In which the ops sum what they read as `x`."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def sum_to(grad: Tensor, num_tasks: int, dtype: torch.dtype) -> Tensor:
    """Gradient of a tensor with `num_tasks` leading entries: what all tasks share is summed."""
    total = grad if grad.shape[0] == num_tasks else grad.sum(0, keepdim=True)
    return total.to(dtype)
