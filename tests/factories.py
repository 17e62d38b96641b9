"""Random inputs for tests: deltas and tensors from a seed, odd sizes welcome."""

import torch
from torch import Tensor

from lets_ext import Delta, DeltaLayout


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_tensor(*shape, dtype=torch.float32, seed=0, grad=False) -> Tensor:
    """Normal values. A float64 draw rounded to `dtype`, so that all dtypes see the same numbers."""
    values = torch.randn(*shape, generator=generator(seed), dtype=torch.float64)
    return values.to(dtype).requires_grad_(grad)


def make_layout(num_tasks=1, out_features=21, in_features=7, density=0.1, seed=0) -> DeltaLayout:
    """Layout of a random mask; density 0 and 1 are exact."""
    shape = (num_tasks, out_features, in_features)
    return DeltaLayout.from_mask(torch.rand(shape, generator=generator(seed)) < density)


def make_delta(
    num_tasks=1,
    out_features=21,
    in_features=7,
    density=0.1,
    dtype=torch.float32,
    seed=0,
    grad=False,
) -> Delta:
    """Random delta with normal values."""
    layout = make_layout(num_tasks, out_features, in_features, density, seed)
    return Delta(layout, make_tensor(layout.nnz, dtype=dtype, seed=seed + 1, grad=grad))
