"""What `lets plan` says of a set of tasks: shared and own work, times, memory, and who is dear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lets.cost import encoder_flops, layer_cost
from lets.metrics import policy_report
from lets.plan.compile import compile_plan, naive_plan
from lets.plan.memory import plan_memory
from lets.plan.price import priced
from lets.plan.schedule import critical_path, list_schedule
from lets.plan.spec import TaskSpec
from lets.plan.step import Plan
from lets.plan.timing import MachineRates, plan_seconds, step_seconds
from lets.policy import LayerCase
from lets.policy_cost import head_cost
from lets.shape import EncoderShape

_GIGA, _MS, _MEGA = 1e9, 1e3, 1e6
_ALL = (LayerCase.P_ALL, LayerCase.F_ALL)
# Below this gain a set of tasks is not worth the shared pass.
_WORTH = 1.0


@dataclass(frozen=True)
class Request:
    """What is explained: tasks on an encoder, an input's size, and a machine."""

    shape: EncoderShape
    specs: Sequence[TaskSpec]
    batch: int
    seq_len: int
    rates: MachineRates
    itemsize: int = 4


def plan_report(request: Request, streams: int = 2, dependent: bool = False) -> dict[str, Any]:
    """JSON of everything that `lets plan` prints; times in ms are expected, not measured.

    Args:
        streams: Of the list schedule of the plan that is not stacked.
        dependent: There, a task starts when the one before it has answered.
    """
    r, rates = request, request.rates
    stacked, single = (_compile(r, stacked=stacked) for stacked in (True, False))
    seconds = plan_seconds(single, rates)
    path_seconds, path = critical_path(single, seconds, dependent)
    schedule = list_schedule(single, seconds, streams, dependent)
    dense = _dense(r)
    dense_ms = _MS * sum(step_seconds(step, dense, rates) for step in dense.steps)
    stacked_ms = _MS * sum(plan_seconds(stacked, rates))
    memory = plan_memory(stacked)
    metrics = policy_report(
        r.shape, [spec.policy for spec in r.specs], r.seq_len, [spec.nnz for spec in r.specs],
        num_labels=[spec.num_labels for spec in r.specs], heads=[spec.head for spec in r.specs],
    ).metrics  # fmt: skip
    count, dense_flops = len(r.specs), encoder_flops(r.shape, r.seq_len, r.batch)
    total = stacked.cost.flops
    report = {
        "encoder": r.shape.name,
        "batch": r.batch,
        "seq_len": r.seq_len,
        "layers": [_layer(j, stacked, r.specs) for j in range(r.shape.num_layers)],
        "tasks": [_task(spec, single, seconds, dense_flops) for spec in r.specs],
        "steps": len(stacked.steps),
        "gflop": total / _GIGA,
        "shared_gflop": _shared(single) / _GIGA,
        "dense_gflop": count * dense_flops / _GIGA,
        "total_percent": 100 * total / dense_flops,
        "flop_ratio": count * dense_flops / total,
        "expected_ms": {
            "stacked": stacked_ms,
            "serial": _MS * sum(seconds),
            "dense": count * dense_ms,
            "ratio": count * dense_ms / stacked_ms,
        },
        "critical_path": {
            "ms": _MS * path_seconds,
            "gflop": sum(single.steps[i].cost.flops for i in path) / _GIGA,
            "steps": [single.steps[i].output for i in path],
        },
        "schedule": {
            "streams": streams,
            "dependent": dependent,
            "ms": _MS * schedule.seconds,
            "speedup": count * dense_ms / (_MS * schedule.seconds),
        },
        "max_speedup": metrics.max_speedup,
        "schedule_speedup": metrics.schedule_speedup,
        "memory": {
            "weights_mb": r.itemsize * r.shape.num_parameters / _MEGA,
            "tasks_mb": sum(_task_bytes(spec, r) for spec in r.specs) / _MEGA,
            "activations_mb": memory.peak / _MEGA,
            "buffers_mb": memory.arena / _MEGA,
            "buffers_without_reuse_mb": memory.total / _MEGA,
        },
    }
    return {**report, "advice": _advice(report)}


def _compile(r: Request, stacked: bool) -> Plan:
    return compile_plan(r.shape, r.specs, r.batch, r.seq_len, stacked=stacked, itemsize=r.itemsize)


def _dense(r: Request) -> Plan:
    """The encoder alone and in full: one fine-tuned model, its head aside."""
    naive = naive_plan(r.shape, r.specs[:1])
    frozen = [step for step in naive.steps if not naive.buffers[step.output].tasks]
    shared = naive.with_steps(step for step in frozen if step.op not in ("row", "gather"))
    own = [step for step in shared.steps if step.case is None]  # not the task's products
    return priced(shared.with_steps(own), r.shape, r.specs[:1], r.batch, r.seq_len, r.itemsize)


def _shared(plan: Plan) -> int:
    return sum(s.cost.flops for s in plan.steps if not plan.buffers[s.output].tasks)


def _layer(j: int, plan: Plan, specs: Sequence[TaskSpec]) -> dict[str, Any]:
    """What the encoder does in a layer for all, and what tasks add to it."""
    steps = [step for step in plan.steps if step.layer == j]
    shared = [step for step in steps if not plan.buffers[step.output].tasks]
    cases: dict[str, list[str]] = {}
    for spec in specs:
        cases.setdefault(str(spec.policy.cases[j]), []).append(spec.name)
    ops = {step.op for step in shared}
    total, own = (sum(step.cost.flops for step in part) for part in (steps, shared))
    runs = (
        "all rows" if "full_tail" in ops
        else "[CLS] row" if "cls_tail" in ops
        else "Q, K, V" if "project" in ops
        else "K, V and one Q" if {"project_key_value", "project_query"} <= ops
        else "K, V" if "project_key_value" in ops
        else "-"
    )  # fmt: skip
    return {
        "layer": j,
        "frozen": runs,
        "shared_gflop": own / _GIGA,
        "added_gflop": (total - own) / _GIGA,
        "cases": cases,
        "stacks": [list(s.tasks) for s in steps if s.op in ("full_tail", "cls_tail") and s.tasks],
    }


def _task(spec: TaskSpec, plan: Plan, seconds: Sequence[float], dense_flops: int) -> dict[str, Any]:
    own = [i for i, s in enumerate(plan.steps) if spec.name in plan.buffers[s.output].tasks]
    flops = sum(plan.steps[i].cost.flops for i in own)
    full = [j for j, case in enumerate(spec.policy.cases) if case in _ALL]
    in_full = sum(plan.steps[i].cost.flops for i in own if plan.steps[i].layer in full)
    share = 100 * in_full / flops if flops else 0.0
    why = (
        f"layers {', '.join(map(str, full))} run over all tokens, because layers above them read "
        f"them: {share:.0f}% of what the task adds"
        if full
        else "no layer runs over all tokens: only [CLS] rows"
    )
    return {
        "name": spec.name,
        **spec.policy.to_dict(),
        "gflop": flops / _GIGA,
        "percent": 100 * flops / dense_flops,
        "expected_ms": _MS * sum(seconds[i] for i in own),
        "full_layers": full,
        "nnz": sum(layer.total for layer in spec.nnz.values() if layer is not None),
        "why": why,
    }


def _task_bytes(spec: TaskSpec, r: Request) -> int:
    """In the engine: a value and a column a non-zero, row offsets, vectors, the head."""
    numbers = head_cost(r.shape, spec.num_labels, widths=spec.head).params
    indices = 0
    for j, nnz in spec.nnz.items():
        numbers += layer_cost(r.shape, spec.policy.cases[j], r.seq_len, nnz).params
        if nnz is None:
            continue
        # Row offsets: of Q, K and V, W_O, W_1 and W_2.
        indices += nnz.total + 5 * r.shape.hidden_size + r.shape.intermediate_size
    return r.itemsize * numbers + 4 * indices


def _advice(report: dict[str, Any]) -> list[str]:
    """What a user should know, in sentences."""
    tasks, lines = report["tasks"], []
    if len(tasks) == 1:
        lines.append(
            f"One task alone costs {report['total_percent']:.0f}% of a dense model: a dense "
            "fine-tuned model is the better choice until more tasks share the pass."
        )
    elif report["flop_ratio"] <= _WORTH:
        lines.append(
            f"These tasks cost {report['total_percent']:.0f}% of one dense model, as much as "
            f"{len(tasks)} dense models: search again with a larger weight of the cost."
        )
    dearest = max(tasks, key=lambda task: task["gflop"])
    mean = sum(task["gflop"] for task in tasks) / len(tasks)
    if len(tasks) > 1 and dearest["gflop"] > 1.2 * mean:
        lines.append(
            f"{dearest['name']} is the most expensive task ({dearest['percent']:.0f}% of the "
            f"encoder, {dearest['gflop'] / mean:.1f} times the mean): {dearest['why']}."
        )
    elif tasks:
        lines.append(f"Each task's cost: {dearest['why']} (e.g. {dearest['name']}).")
    return lines
