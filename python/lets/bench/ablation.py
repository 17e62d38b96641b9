"""What each part of the engine is worth: the same tasks with one part left out or added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lets.bench.check import Difference
from lets.bench.measure import interleaved
from lets.bench.ours import Ours
from lets.bench.problem import random_batch
from lets.bench.settings import BenchSettings
from lets.dense import evaluate_densely
from lets.errors import LetsError
from lets.layers import OwnLayer
from lets.plan.compile import RULES, Rule, compile_plan
from lets.plan.rewrite import drop_dead_steps
from lets.precision import tolerance
from lets.products import can_pack, can_round
from lets.run.modes import ROW_LIMIT, run
from lets.run.packing import packed_as_read
from lets.run.program import Program
from lets.run.stacks import Stacks
from lets.run.task_set import TaskSet
from lets.tokens import TokenBatch
from lets_ext import Delta, DeltaLayout

ALL = "all"
_MS = 1e3

Call = Callable[[TokenBatch], dict[str, Tensor]]


@dataclass(frozen=True)
class AblationRow:
    """One variant beside the engine with all its parts (`stacked`); milliseconds of a call.

    Args:
        slowdown: Time over that of the engine with all parts; None where an answer was wrong.
        max_abs_diff: Logits against a plain evaluation of the same packs.
    """

    variant: str
    policy: str
    tasks: int
    batch: int
    seq_len: int
    threads: int
    max_abs_diff: float
    lets_ms: float | None = None
    iqr_ms: float | None = None
    slowdown: float | None = None
    rounds: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


COLUMNS = ("variant", "LeTS ms", "IQR ms", "times all", "max diff")


def table(rows: list[AblationRow]) -> list[list[str]]:
    """Cells under COLUMNS; a wrong answer has no time."""
    return [
        [row.variant, *(["-"] * 3 if row.slowdown is None else
         [f"{row.lets_ms:.1f}", f"{row.iqr_ms:.1f}", f"{row.slowdown:.2f}"]),
         f"{row.max_abs_diff:.0e}"]
        for row in rows
    ]  # fmt: skip


def run_ablation(settings: BenchSettings, note: Callable[[str], None]) -> list[AblationRow]:
    """Rows of the one point of the settings; all variants take turns."""
    for name in ("policies", "tasks", "batch", "seq_len"):
        if len(values := getattr(settings, name)) > 1:
            raise LetsError(f"ablation: {name} must be one alone, got {len(values)}")
    for name in ("mode", "quantization"):
        if getattr(settings, name) not in (None, "auto"):
            raise LetsError(f"ablation: {name} must be left out; it is among what is compared")
    ours = Ours(settings)
    policy, count = ours.policies[0], settings.tasks[0]
    tasks = ours.tasks(policy, count)
    tokens = random_batch(ours.encoder, settings.batch[0], settings.seq_len[0])
    calls = dict(_variants(ours, policy, count, tokens))
    found: dict[str, Difference] = {}
    with torch.inference_mode():
        expected = [evaluate_densely(task.to_model(ours.encoder), tokens) for task in tasks]
        for name, call in calls.items():
            answers = call(tokens)
            found[name] = Difference.of((answers[task.name] for task in tasks), expected)
        right = {
            name: lambda call=call: call(tokens)
            for name, call in calls.items()
            if found[name].within(
                tolerance(settings.torch_dtype, "int8" if "int8" in name else None)
            )
        }
        timings = interleaved(right, settings.rounds, warmup=1, seconds=settings.seconds)
    rows = []
    for name in calls:
        row = AblationRow(
            name, policy, count, settings.batch[0], settings.seq_len[0],
            torch.get_num_threads(), found[name].absolute,
        )  # fmt: skip
        if name in timings and ALL in timings:
            time = timings[name]
            row = replace(
                row, lets_ms=_MS * time.median, iqr_ms=_MS * (time.high - time.low),
                slowdown=time.median / timings[ALL].median, rounds=time.rounds,
            )  # fmt: skip
        note(" ".join(table([row])[0]))
        rows.append(row)
    return rows


def _variants(
    ours: Ours, policy: str, count: int, tokens: TokenBatch
) -> Iterator[tuple[str, Call]]:
    encoder = ours.encoder
    tasks = {task.name: task for task in ours.tasks(policy, count)}
    loaded = TaskSet(encoder.packed(), tasks)
    yield ALL, _mode(loaded, "stacked")
    if can_pack(encoder.dtype, encoder.device):
        yield "without packed products", _mode(TaskSet(encoder, tasks), "stacked")
    yield "without stacking (serial)", _mode(loaded, "serial")
    yield "streams in place of stacking", _mode(loaded, "streams")
    if encoder.device.type == "cuda":
        yield "with graphs", _mode(loaded, "stacked", graphs=True)
    whole = _without(None, loaded, tokens)
    # Nothing is loaded for the layers that dropping dead steps bypasses, so that rule stays.
    for rule in dict.fromkeys(RULES):
        if rule is drop_dead_steps:
            continue
        program = _without(rule, loaded, tokens)
        if program.plan.steps != whole.plan.steps:  # it changes something for these tasks
            yield f"without the rule: {rule.__name__.replace('_', ' ')}", program.run
    if can_round(encoder.dtype, encoder.device):
        rounded = TaskSet(encoder.packed("int8"), tasks)
        yield "with int8 products", _mode(rounded, "stacked")


def _mode(loaded: TaskSet, mode: str, graphs: bool = False) -> Call:
    names = tuple(loaded.tasks)
    return lambda tokens: run(loaded, names, tokens, mode, graphs)


def _without(rule: Rule | None, loaded: TaskSet, tokens: TokenBatch) -> Program:
    plan = compile_plan(
        loaded.encoder.shape,
        list(loaded.stacks.specs.values()),
        *tokens.input_ids.shape,
        row_limit=ROW_LIMIT,
        merged=loaded.encoder.device.type == "cuda",
        rules=[other for other in RULES if other is not rule],
    )
    encoder = packed_as_read(loaded.encoder, plan)
    stacks: Any = _WholeProjections(loaded.stacks)
    return Program(plan, encoder, stacks)


class _WholeProjections:
    """Stacks with the delta of Q, K, V in one for [CLS]-only layers too, as full layers read it."""

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stacks, name)

    def own(self, layer: int, tasks: Sequence[str]) -> OwnLayer:
        own = self._stacks.own(layer, tasks)
        query_bias, value_bias = own.query_bias_delta, own.value_bias_delta
        if query_bias is None or value_bias is None:
            return own
        deltas = [self._stacks.deltas(layer, name)["qkv"] for name in tasks]
        layout = DeltaLayout.stack([delta.layout for delta in deltas])
        qkv = Delta(layout, torch.cat([delta.values for delta in deltas]))
        bias = torch.cat([query_bias, torch.zeros_like(query_bias), value_bias], dim=1)
        return replace(own, qkv=qkv, qkv_bias_delta=bias)
