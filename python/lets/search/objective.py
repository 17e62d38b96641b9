"""What the search minimises: the task's loss times what the sampled architecture costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lets.cost import LayerPrices


def expected_cost(
    p_input: Tensor, p_pool: Tensor, prices: Sequence[LayerPrices], constant: float = 0.0
) -> Tensor:
    """Mean FLOPs of a task under independent selectors (METHOD section 7), from the top down.

    Args:
        p_input: P(input of layer j is f). [L]
        p_pool: P(layer j pools f). [L]
        constant: What the task pays whatever the policy, i.e. its head.
    """
    feeds = p_pool.new_zeros(())
    total = p_pool.new_full((), constant)
    for j in reversed(range(len(prices))):
        live = 1 - (1 - p_pool[j]) * (1 - feeds)
        total = total + prices[j].expected(p_input[j], live, feeds)
        feeds = p_input[j] * live
    return total


def cost_factor(flops: Tensor, weight: float, power: float) -> Tensor:
    """α · log(e + E)^β with E in GFLOP (Eq. 8).

    log(e + E) instead of log(E): below 1 GFLOP the logarithm is negative, and any function that is
    0 at E = 0 makes "bypass everything" the minimum whatever the loss (METHOD section 12).
    """
    return weight * torch.log(math.e + flops * 1e-9) ** power
