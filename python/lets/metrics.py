"""Operations, speed-ups and parameters of a set of tasks (METHOD section 10, Eqs. 10-13).

A system is a backbone (`overhead`) and one `TaskLoad` per task; LeTS and the baselines that need no
policy (full fine-tuning, frozen bottom, appended top) are built here into the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lets.cost import Accounting, dense_layer_cost, encoder_flops
from lets.errors import LetsError
from lets.nnz import TaskNnz, policy_nnz
from lets.policy import Policy
from lets.policy_cost import FrozenCost, TaskCost, frozen_cost, task_cost
from lets.shape import EncoderShape, layer_parameters


@dataclass(frozen=True)
class Chain:
    """Consecutive layers of one task that read each other."""

    flops: int
    ready: int  # FLOPs of the backbone before it can start and run through


@dataclass(frozen=True)
class TaskLoad:
    """What the metrics need to know of one task, in FLOPs and parameters."""

    chains: tuple[Chain, ...]
    head: int = 0  # FLOPs after all chains
    new_params: int = 0
    mask: int = 0  # the non-zeros among the new parameters
    pooled_ready: int = 0  # FLOPs of the backbone before every frozen row that the head reads

    @property
    def flops(self) -> int:
        return sum(chain.flops for chain in self.chains) + self.head

    @property
    def longest_chain(self) -> int:
        return max((chain.flops for chain in self.chains), default=0)


@dataclass(frozen=True)
class SystemMetrics:
    """The metrics of METHOD section 10 for a set of tasks; percentages are of the encoder."""

    new_percent: float  # mean over tasks
    new_params_percent: float  # mean over tasks
    mask_percent: float  # mean over tasks
    overhead_percent: float
    total_percent: float
    total_params_ratio: float
    max_speedup: float
    schedule_speedup: float


def system_metrics(
    encoder_flops: int,
    encoder_params: int,
    overhead: int,
    tasks: Sequence[TaskLoad],
    shares_encoder: bool = True,
) -> SystemMetrics:
    """Metrics of a system of tasks on one encoder.

    `max_speedup` is the paper's: tasks run one after the other behind the whole backbone, each as
    long as its longest chain. `schedule_speedup` keeps the tasks' order but lets a chain start as
    soon as the backbone has produced what it reads, and the head when all that it pools is there.

    Args:
        overhead: FLOPs of the backbone, once for all tasks.
        shares_encoder: False where every task holds parameters of its own alone.
    """
    if not tasks:
        raise LetsError("metrics: tasks must hold at least one task, got none")
    count = len(tasks)
    new = sum(task.flops for task in tasks)
    params = sum(task.new_params for task in tasks)
    critical = overhead + sum(task.longest_chain + task.head for task in tasks)
    return SystemMetrics(
        new_percent=100 * new / (count * encoder_flops),
        new_params_percent=100 * params / (count * encoder_params),
        mask_percent=100 * sum(task.mask for task in tasks) / (count * encoder_params),
        overhead_percent=100 * overhead / encoder_flops,
        total_percent=100 * (new + overhead) / encoder_flops,
        total_params_ratio=(params + (encoder_params if shares_encoder else 0)) / encoder_params,
        max_speedup=_ratio(count * encoder_flops, critical),
        schedule_speedup=_ratio(count * encoder_flops, _schedule_end(tasks)),
    )


def _schedule_end(tasks: Sequence[TaskLoad]) -> int:
    clock = 0
    for task in tasks:
        begin = clock
        clock = max(clock, task.pooled_ready)
        for chain in task.chains:
            clock = max(clock, max(begin, chain.ready) + chain.flops)
        clock += task.head
    return clock


def _ratio(dense: int, critical: int) -> float:
    # Nothing to run at all happens only without layers, e.g. when every task bypasses an encoder
    # whose frozen output nobody reads; there is no such policy, but callers build loads by hand.
    if critical <= 0:
        raise LetsError("metrics: the critical path must be longer than 0 FLOPs")
    return dense / critical


def task_load(cost: TaskCost, frozen: FrozenCost) -> TaskLoad:
    """A LeTS task beside the frozen encoder that its set runs."""
    policy = cost.policy
    chains = tuple(_chain(cost, frozen, chain) for chain in policy.chains)
    pooled = [frozen.hidden_ready[j] for j, letter in enumerate(policy.pool) if letter == "p"]
    return TaskLoad(
        chains,
        cost.head.flops,
        cost.total.params,
        cost.nnz,
        max(pooled, default=0),
    )


def _chain(cost: TaskCost, frozen: FrozenCost, layers: Sequence[int]) -> Chain:
    """Layers of a [CLS] stream wait for the frozen encoder one by one, all others only at first."""
    done = ready = 0
    for j in layers:
        if cost.policy.input[j] != "f":
            ready = max(ready, frozen.qkv_ready[j] - done)
        done += cost.layers[j].flops
    return Chain(done, ready)


@dataclass(frozen=True)
class PolicyReport:
    """Costs of a set of policies on an encoder shape, and their metrics."""

    encoder_flops: int
    overhead: int
    tasks: tuple[TaskCost, ...]
    loads: tuple[TaskLoad, ...]
    metrics: SystemMetrics


def policy_report(
    shape: EncoderShape,
    policies: Sequence[Policy],
    seq_len: int,
    nnz: float | Sequence[TaskNnz] | None,
    accounting: Accounting = "engine",
    num_labels: int | Sequence[int] = 2,
    heads: Sequence[tuple[int, int]] | None = None,
) -> PolicyReport:
    """Everything that is known of a set of tasks before anything runs.

    Args:
        nnz: One density for all tasks, or the counted non-zeros of each task's live layers; None:
            live layers are dense (LeTS-(c)).
        heads: Widths of each task's head; None: the default ones.
    """
    counts: Sequence[float | TaskNnz | None]
    counts = nnz if isinstance(nnz, Sequence) else [nnz] * len(policies)
    labels = num_labels if isinstance(num_labels, Sequence) else [num_labels] * len(policies)
    widths = [None] * len(policies) if heads is None else heads
    costs = tuple(
        task_cost(shape, policy, seq_len, count, accounting, classes, head=head)
        for policy, count, classes, head in zip(policies, counts, labels, widths, strict=True)
    )
    whole = [None in policy_nnz(shape, p, n).values() for p, n in zip(policies, counts)]
    frozen = frozen_cost(shape, seq_len, policies, accounting, dense=whole)
    loads = tuple(task_load(cost, frozen) for cost in costs)
    dense, overhead = encoder_flops(shape, seq_len), frozen.total.flops
    metrics = system_metrics(dense, shape.num_parameters, overhead, loads)
    return PolicyReport(dense, overhead, costs, loads, metrics)


def full_finetuning(shape: EncoderShape, seq_len: int, num_tasks: int) -> SystemMetrics:
    """A whole encoder per task: nothing is shared."""
    flops = encoder_flops(shape, seq_len)
    load = TaskLoad((Chain(flops, 0),), new_params=shape.num_parameters)
    return system_metrics(flops, shape.num_parameters, 0, [load] * num_tasks, shares_encoder=False)


def own_pass(shape: EncoderShape, seq_len: int, num_tasks: int, new_params: int) -> SystemMetrics:
    """One encoder in memory, a whole pass per task: adapters, BitFit, diff pruning, LeTS-(p)."""
    flops = encoder_flops(shape, seq_len)
    load = TaskLoad((Chain(flops, 0),), new_params=new_params)
    return system_metrics(flops, shape.num_parameters, 0, [load] * num_tasks)


def freeze_bottom(
    shape: EncoderShape, seq_len: int, num_tasks: int, frozen_layers: int
) -> SystemMetrics:
    """The bottom layers frozen and shared, all above them trained for each task."""
    own = shape.num_layers - _checked("frozen_layers", frozen_layers, shape.num_layers)
    return _stacked(shape, seq_len, num_tasks, frozen_layers, own)


def append_top(shape: EncoderShape, seq_len: int, num_tasks: int, new_layers: int) -> SystemMetrics:
    """The whole encoder shared, and copies of its last layers trained on top of it."""
    own = _checked("new_layers", new_layers, shape.num_layers)
    return _stacked(shape, seq_len, num_tasks, shape.num_layers, own)


def stacked_load(shape: EncoderShape, seq_len: int, shared: int, own: int) -> tuple[TaskLoad, int]:
    """A task with layers of its own on top of shared ones, and the FLOPs of those."""
    layer = dense_layer_cost(shape, seq_len).flops
    params = own * layer_parameters(shape.hidden_size, shape.intermediate_size)
    return TaskLoad((Chain(own * layer, shared * layer),), new_params=params), shared * layer


def _stacked(
    shape: EncoderShape, seq_len: int, num_tasks: int, shared: int, own: int
) -> SystemMetrics:
    load, overhead = stacked_load(shape, seq_len, shared, own)
    dense = encoder_flops(shape, seq_len)
    return system_metrics(dense, shape.num_parameters, overhead, [load] * num_tasks)


def _checked(name: str, value: int, num_layers: int) -> int:
    if not 0 <= value <= num_layers:
        raise LetsError(f"metrics: {name} must be between 0 and {num_layers}, got {value}")
    return value
