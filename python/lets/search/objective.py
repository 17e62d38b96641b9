"""What the search minimises: the task's loss times what the sampled architecture costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LayerPrices:
    """Cost of one layer in each live case, in GFLOP; a bypassed layer costs nothing."""

    p_all: float
    p_cls: float
    f_all: float
    f_cls: float

    def expected(self, p_input: Tensor, live: Tensor, feeds: Tensor) -> Tensor:
        """Mean cost, given the probabilities that its input is f, that it is live, that it feeds."""
        only_cls = live - feeds
        reads_p = feeds * self.p_all + only_cls * self.p_cls
        reads_f = feeds * self.f_all + only_cls * self.f_cls
        return (1 - p_input) * reads_p + p_input * reads_f


def expected_cost(
    p_input: Tensor, p_pool: Tensor, prices: list[LayerPrices], constant: float = 0.0
) -> Tensor:
    """Mean cost of a task under independent selectors (METHOD section 7), from the top down.

    Args:
        p_input: P(input of layer j is f). [L]
        p_pool: P(layer j pools f). [L]
        constant: What the task pays whatever the policy, i.e. the head.
    """
    feeds = p_pool.new_zeros(())
    total = p_pool.new_full((), constant)
    for j in reversed(range(len(prices))):
        live = 1 - (1 - p_pool[j]) * (1 - feeds)
        total = total + prices[j].expected(p_input[j], live, feeds)
        feeds = p_input[j] * live
    return total


def cost_factor(gflop: Tensor, weight: float, power: float) -> Tensor:
    """α · log(e + E)^β (Eq. 8).

    log(e + E) instead of log(E): below 1 GFLOP the logarithm is negative, and any function that is
    0 at E = 0 makes "bypass everything" the minimum whatever the loss (METHOD section 12).
    """
    return weight * torch.log(math.e + gflop) ** power
