"""What every system of the comparison gets, and what it hands back: one trainer, one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from lets.config import ACCOUNTINGS
from lets.cost import encoder_flops
from lets.errors import LetsError
from lets.metrics import Chain, SystemMetrics, TaskLoad, system_metrics
from lets.nnz import TaskNnz
from lets.policy import Policy
from lets.shape import EncoderShape
from lets.tokens import Texts
from lets.train.stages import RunInputs


@dataclass(frozen=True)
class SystemRun:
    """One task for one system.

    Args:
        inputs: Encoder, data, settings, progress. `inputs.data.dev` is what chooses the
            checkpoint; whatever the result is reported on is not in it.
        folder: Of this run alone; a system keeps checkpoints there and resumes from them.
        search_folder: Where the search of this task (and seed) is kept for all systems.
    """

    inputs: RunInputs
    folder: Path
    search_folder: Path


@dataclass(frozen=True)
class SystemCost:
    """What one task of a system runs and stores, and what all tasks share.

    Args:
        overhead: FLOPs of the frozen encoder, once for all tasks.
        shares_encoder: False where every task holds parameters of its own alone.
    """

    load: TaskLoad
    overhead: int = 0
    shares_encoder: bool = True

    def metrics(self, encoder_flops: int, shape: EncoderShape, num_tasks: int) -> SystemMetrics:
        """METHOD section 10, for so many tasks like this one."""
        loads = [self.load] * num_tasks
        return system_metrics(
            encoder_flops, shape.num_parameters, self.overhead, loads, self.shares_encoder
        )


@dataclass(frozen=True)
class SystemResult:
    """A trained task.

    Args:
        forward: Texts → logits of the chosen checkpoint, in eval mode.
        history: One entry per epoch: epoch, step, loss (mean over the epoch), score (on the rows
            that choose the checkpoint).
            The checkpoint is that of the first best score.
        costs: By accounting, see `same_costs` for systems without a policy.
        seconds: By stage, as they ran, e.g. {"search": …, "finetune": …}.
        policy: Of systems that have one.
        details: Anything else that is worth keeping, small and JSON.
    """

    forward: Callable[[Texts], Tensor]
    history: list[dict[str, Any]]
    costs: Mapping[str, SystemCost]
    seconds: dict[str, float]
    policy: Policy | None = None
    details: dict[str, Any] = field(default_factory=dict)


System = Callable[[SystemRun], SystemResult]


@dataclass(frozen=True)
class Sizes:
    """What a system costs depends on; trained ones count instead of estimating.

    Args:
        density: Kept share of the masked weights (LeTS, diff pruning, SHiRA).
        policy: Of LeTS-(p,c) and -(c).
        nnz: Counted non-zeros by live layer, in place of a density.
    """

    shape: EncoderShape
    seq_len: int
    num_labels: int = 2
    density: float = 0.005
    policy: Policy | None = None
    nnz: TaskNnz | None = None

    @classmethod
    def of(cls, run: SystemRun) -> Sizes:
        config, encoder = run.inputs.config, run.inputs.encoder
        return cls(
            encoder.shape, config.max_seq_length, run.inputs.data.num_labels, config.prune.density
        )


Costs = dict[str, SystemCost]  # by accounting


def own_pass_costs(sizes: Sizes, new_params: int, extra_flops: int = 0, mask: int = 0) -> Costs:
    """One encoder in memory, a whole pass per task: BitFit, adapters, diff pruning.

    Args:
        extra_flops: Beside the encoder's own; the paper's accounting leaves them out.
        mask: Non-zeros among the new parameters.
    """
    flops = encoder_flops(sizes.shape, sizes.seq_len)
    return {
        accounting: SystemCost(TaskLoad((Chain(flops + extra, 0),), 0, new_params, mask))
        for accounting, extra in (("paper", 0), ("engine", extra_flops))
    }


def check_number(name: str, number: int, least: int, most: int | None = None) -> None:
    """Raise unless the number in a system's name is one that it can have."""
    if number < least or (most is not None and number > most):
        bound = "" if most is None else f" and at most {most} (layers)"
        raise LetsError(f"system: {name} must have a number of at least {least}{bound}")


def same_costs(cost: SystemCost) -> Costs:
    """Dense layers cost the same in both accountings."""
    return dict.fromkeys(ACCOUNTINGS, cost)
