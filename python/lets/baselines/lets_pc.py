"""LeTS-(p,c): a policy, searched or given, and sparse deltas (METHOD section 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from lets.baselines.base import Costs, Sizes, SystemCost, SystemResult, SystemRun
from lets.baselines.trace import search_trace
from lets.config import ACCOUNTINGS
from lets.cost import check_accounting
from lets.errors import LetsError
from lets.metrics import policy_report
from lets.nnz import LayerNnz, TaskNnz
from lets.policy import Policy
from lets.shape import EncoderShape
from lets.task_model import TaskModel
from lets.train.finetune import forward_of
from lets.train.stages import (
    StageResult,
    finetune_stage,
    mask_of,
    policy_of,
    prune_stage,
    search_stage,
)


def lets_pc(run: SystemRun, number: int | None = None) -> SystemResult:
    """LeTS-(p,c) with the task's searched policy.

    Args:
        number: β of the search (Eq. 8), in place of the recipe's.
    """
    return _searched(run, *(() if number is None else (f"b{number}", "cost_power", number)))


def lets_pc_target(run: SystemRun, number: int) -> SystemResult:
    """The same, where operations are free up to so many percent of the encoder's."""
    return _searched(run, f"t{number}", "cost_target", number / 100)


def _searched(run: SystemRun, name: str = "", setting: str = "", value: float = 0) -> SystemResult:
    """With one setting of the search changed, whose name its folder ends in."""
    changed = {setting: value} if name else {}
    policy, seconds = searched_policy(run, name, **changed)
    result = fixed_policy(run, policy, seconds)
    trace = search_trace(_search_folder(run, name))
    return replace(result, details={**result.details, "search": {**changed, **trace}})


def lets_pc_stream(run: SystemRun) -> SystemResult:
    """The same policy with the [CLS] stream wherever it is almost free."""
    policy, seconds = searched_policy(run)
    return fixed_policy(run, policy.streamed(), seconds)


def searched_policy(
    run: SystemRun, name: str = "", **settings: float
) -> tuple[Policy, dict[str, float]]:
    """The task's policy and the seconds of its stages; searched once, shared by all systems.

    Args:
        name: Of a search with other settings than the recipe's, and these.
    """
    inputs = replace(run.inputs, config=run.inputs.config.override({"search": settings}))
    trial = prune_stage(inputs, run.search_folder / "prune-supernet", None)
    found = search_stage(inputs, _search_folder(run, name), mask_of(trial))
    seconds = {"prune-supernet": seconds_of(trial), "search": found.summary["seconds"]}
    return policy_of(found), seconds


def _search_folder(run: SystemRun, name: str) -> Path:
    return run.search_folder / (f"search-{name}" if name else "search")


def fixed_policy(run: SystemRun, policy: Policy, seconds: dict[str, float]) -> SystemResult:
    """Prune and fine-tune a policy."""
    pruned = prune_stage(run.inputs, run.folder / "prune", policy)
    tuned, model = finetune_stage(run.inputs, run.folder / "finetune", policy, mask_of(pruned))
    return tuned_result(
        run, tuned, model, {**seconds, "prune": seconds_of(pruned)},
        lets_pc_costs(replace(Sizes.of(run), policy=policy, nnz=counts_of(model))),
    )  # fmt: skip


def tuned_result(
    run: SystemRun,
    tuned: StageResult,
    model: TaskModel,
    seconds: dict[str, float],
    costs: Costs,
) -> SystemResult:
    """What fine-tuning a task model of any variant ended with."""
    return SystemResult(
        forward=forward_of(model, run.inputs.config.max_seq_length),
        history=tuned.summary["history"],
        costs=costs,
        seconds={**seconds, "finetune": tuned.summary["seconds"]},
        policy=model.policy,
        details={} if model.dense else {"nnz": {j: asdict(n) for j, n in counts_of(model).items()}},
    )


def lets_pc_costs(sizes: Sizes, number: int | None = None, dense: bool = False) -> Costs:
    """Costs of a policy.

    Args:
        number: Of a setting of its search, which changes nothing else.
        dense: Whether its live layers have whole matrices (LeTS-(c)).
    """
    if sizes.policy is None:
        raise LetsError("costs of searched systems need a policy; give one")
    nnz: float | Sequence[TaskNnz] | None = sizes.density if sizes.nnz is None else [sizes.nnz]
    nnz = None if dense else nnz
    costs: Costs = {}
    for accounting in map(check_accounting, ACCOUNTINGS):
        report = policy_report(
            sizes.shape, [sizes.policy], sizes.seq_len, nnz, accounting, sizes.num_labels
        )
        costs[accounting] = SystemCost(report.loads[0], report.overhead)
    return costs


def lets_pc_target_costs(sizes: Sizes, number: int) -> Costs:
    return lets_pc_costs(sizes)


def lets_pc_stream_costs(sizes: Sizes) -> Costs:
    return lets_pc_costs(replace(sizes, policy=sizes.policy and sizes.policy.streamed()))


def _given(preset: str) -> tuple[Callable[..., SystemResult], Callable[..., Costs]]:
    """System and costs of the policies of a preset, by its number; nothing is searched."""

    def policy(shape: EncoderShape, number: int) -> Policy:
        return Policy.preset(f"{preset}-{number}", shape.num_layers)

    def run_system(run: SystemRun, number: int) -> SystemResult:
        return fixed_policy(run, policy(run.inputs.encoder.shape, number), {})

    def costs(sizes: Sizes, number: int) -> Costs:
        return lets_pc_costs(replace(sizes, policy=policy(sizes.shape, number)))

    return run_system, costs


# LeTS-G-g: so many chains that hold all layers.
lets_g, lets_g_costs = _given("g")
# The top layers are one chain, all others read x^p; 1: every layer does.
lets_d, lets_d_costs = _given("depth")
# The same, where those below the chain are a [CLS] stream.
lets_s, lets_s_costs = _given("stream")


def counts_of(model: TaskModel) -> dict[int, LayerNnz]:
    """Non-zeros by live layer."""
    return {
        j: LayerNnz.from_crow(
            {name: layout.crow_indices for name, layout in model.task_layer(j).layouts.items()}
        )
        for j in model.policy.live_layers
    }


def seconds_of(result: StageResult) -> float:
    return float(result.summary["wall_seconds"])
