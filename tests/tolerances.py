"""How close is close: one place for the tolerances of all op tests."""

import torch
from torch import Tensor

# fp32 sums of up to a few thousand products in another order; float64 to its last digits.
_TOLERANCE = {torch.float32: (1e-5, 2e-5), torch.float64: (1e-12, 1e-12)}


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Equal shape and dtype, values within the tolerance of the dtype (fp32 or float64)."""
    rtol, atol = _TOLERANCE[expected.dtype]
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


def assert_no_worse(actual: Tensor, low: Tensor, exact: Tensor, factor: float = 2.0) -> None:
    """`actual` may be at most `factor` times as far from `exact` as PyTorch in the same dtype."""
    assert actual.dtype == low.dtype
    assert actual.shape == low.shape == exact.shape
    if actual.numel() == 0:
        return
    ours, theirs = ((t.double() - exact.double()).abs().max() for t in (actual, low))
    assert ours <= factor * theirs + 1e-7, f"{ours:.2e} against PyTorch's {theirs:.2e}"
