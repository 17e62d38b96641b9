"""Expected times of steps: a roofline from a machine's measured rates."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lets.plan.price import is_view
from lets.plan.step import Plan, Step

# Steps whose FLOPs are products with a frozen weight; others run at the rate of few rows.
_PRODUCTS = (
    "project",
    "project_query",
    "project_key_value",
    "full_tail",
    "cls_tail",
    "cls_tail_layers",
)


@dataclass(frozen=True)
class MachineRates:
    """What a machine reaches.

    Args:
        gemm: (rows, FLOPs per second) of a product with a weight, by rows, increasing.
        bandwidth: Bytes per second from and to memory.
        overhead: Seconds to start a step.
    """

    gemm: tuple[tuple[int, float], ...]
    bandwidth: float
    overhead: float

    def flops(self, rows: int) -> float:
        """FLOPs per second of a product with so many rows; between measured ones on a log scale."""
        at = bisect.bisect_left(self.gemm, (rows, 0.0))
        if at in (0, len(self.gemm)):
            return self.gemm[min(at, len(self.gemm) - 1)][1]
        (low, slow), (high, fast) = self.gemm[at - 1], self.gemm[at]
        share = math.log(rows / low) / math.log(high / low)
        return slow + share * (fast - slow)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MachineRates:
        """Rates from JSON; raises ValueError, TypeError or KeyError for anything else."""
        gemm = tuple((int(rows), float(rate)) for rows, rate in data["gemm"])
        rates = cls(gemm, float(data["bandwidth"]), float(data["overhead"]))
        values = [rates.bandwidth, *(rate for _, rate in gemm)]
        if not gemm or list(gemm) != sorted(gemm) or min(values) <= 0 or rates.overhead < 0:
            raise ValueError("rates must be positive, and rows increase")
        return rates


def step_seconds(step: Step, plan: Plan, rates: MachineRates) -> float:
    """Expected time of one step."""
    if is_view(step):
        return 0.0
    count = max(1, len(plan.buffers[step.output].tasks))
    of_rows = plan.buffers[step.output].kind == "row"
    rows = count * plan.batch * (1 if of_rows else plan.seq_len)
    # Attention and heads: one product per task.
    rate = rates.flops(rows if step.op in _PRODUCTS else rows // count)
    return rates.overhead + max(step.cost.flops / rate, step.cost.bytes / rates.bandwidth)


def plan_seconds(plan: Plan, rates: MachineRates) -> list[float]:
    """Expected time of every step, in the plan's order."""
    return [step_seconds(step, plan, rates) for step in plan.steps]
