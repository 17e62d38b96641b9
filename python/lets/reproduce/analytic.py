"""What systems cost on the paper's encoders, from the cost model alone."""

from __future__ import annotations

from lets.baselines import system_costs
from lets.baselines.base import Sizes
from lets.cost import encoder_flops
from lets.metrics import SystemMetrics
from lets.reproduce.cell import NUM_TASKS
from lets.shape import EncoderShape

SEQ_LEN = 128
_SEARCHED = ("lets-pc", "lets-c")


def analytic(system: str, encoder: str, density: float = 0.005) -> dict[str, SystemMetrics] | None:
    """Metrics of nine tasks by accounting; None for searched systems: no policy is published.

    Of LeTS-G-g the paper names the groups alone: it is counted as if nothing was bypassed.
    """
    if system in _SEARCHED:
        return None
    shape = EncoderShape.from_name(encoder)
    costs = system_costs(system, Sizes(shape, SEQ_LEN, density=density))
    dense = encoder_flops(shape, SEQ_LEN)
    return {name: cost.metrics(dense, shape, NUM_TASKS) for name, cost in costs.items()}
