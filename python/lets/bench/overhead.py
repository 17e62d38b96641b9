"""What a call of the engine costs beside its layers: Python, the heads, and copies of tensors."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from lets.bench.ours import Ours
from lets.bench.problem import random_batch
from lets.run.kernels import Kernel
from lets.run.modes import runnable
from lets.run.program import Program

_CALL, _HEAD = "lets call", "lets head"
_COPIES = {"aten::cat", "aten::stack", "aten::index_select", "aten::copy_", "aten::clone"}
_MS = 1e-3  # of the profiler's microseconds


@dataclass(frozen=True)
class OverheadRow:
    """One call, medians in milliseconds, and what of it is no layer's work.

    Args:
        call_ms: Under the profiler, whose own cost is in it and in `python_ms`.
        python_ms: Outside of all ops: Python of engine, plan and layers.
        copies_ms: Ops that only move values, those of the heads left out.
        heads_ms: The heads of all tasks, with their Python.
        ops: That Python calls in the layers and between them.
        share: Of the call.
    """

    policy: str
    tasks: int
    batch: int
    seq_len: int
    threads: int
    mode: str
    rounds: int
    call_ms: float
    python_ms: float
    copies_ms: float
    heads_ms: float
    ops: int
    share: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure_overhead(
    ours: Ours, policy: str, tasks: int, batch: int, seq_len: int, rounds: int
) -> OverheadRow:
    """A row of the engine that `ours` makes."""
    calls = take_calls(_labelled(ours, policy, tasks, batch, seq_len), rounds)
    middle = {name: statistics.median(call[name] for call in calls) for name in calls[0]}
    beside = middle["python"] + middle["copies"] + middle["heads"]
    return OverheadRow(
        policy, tasks, batch, seq_len, torch.get_num_threads(), ours.mode(policy, tasks),
        len(calls), _MS * middle["call"], _MS * middle["python"], _MS * middle["copies"],
        _MS * middle["heads"], int(middle["ops"]), beside / middle["call"],
    )  # fmt: skip


def _labelled(
    ours: Ours, policy: str, tasks: int, batch: int, seq_len: int
) -> Callable[[], object]:
    """The engine's call, its head named in the profile."""
    engine = ours.engine(policy, tasks)
    tokens = random_batch(ours.encoder, batch, seq_len)
    program: Any = runnable(engine.task_set, tuple(engine.tasks), engine.mode, batch, seq_len)
    if not isinstance(program, Program):
        raise TypeError("overhead: steps on several threads overlap; measure another mode")
    program = copy.copy(program)
    program.kernels = [
        _named(kernel) if step.op == "head" else kernel
        for kernel, step in zip(program.kernels, program.plan.steps)
    ]
    return lambda: program.run(tokens)


def _named(kernel: Kernel) -> Kernel:
    def run(*args: Any) -> Any:
        with record_function(_HEAD):
            return kernel(*args)

    return run


@torch.inference_mode()
def take_calls(run: Callable[[], object], rounds: int) -> list[dict[str, float]]:
    """Microseconds of every call by kind, and the number of its ops."""
    run()
    with profile(activities=[ProfilerActivity.CPU]) as session:
        for _ in range(1 + rounds):
            with record_function(_CALL):
                run()
    calls = [event for event in session.events() if event.name == _CALL]
    return [_split(call) for call in calls[1:]]  # the first one warms the profiler up


def _split(call: Any) -> dict[str, float]:
    heads = [event for event in call.cpu_children if event.name == _HEAD]
    ops = [event for event in call.cpu_children if event.name != _HEAD]
    whole, inside = _length(call), sum(map(_length, call.cpu_children))
    return {
        "call": whole,
        "python": whole - inside,
        "copies": sum(_length(copied) for op in ops for copied in _copies(op)),
        "heads": sum(map(_length, heads)),
        "ops": float(len(ops)),
    }


def _copies(op: Any) -> Iterator[Any]:
    if op.name in _COPIES:
        yield op
    else:
        for child in op.cpu_children:
            yield from _copies(child)


def _length(event: Any) -> float:
    return event.time_range.elapsed_us()
