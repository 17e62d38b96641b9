"""When each step of a plan could run: the critical path, and list scheduling on streams."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from lets.errors import LetsError
from lets.plan.step import Plan


@dataclass(frozen=True)
class Slot:
    """One step's place: its index in the plan, its stream, its begin and end in seconds."""

    step: int
    stream: int
    begin: float
    end: float


@dataclass(frozen=True)
class Schedule:
    """Slots in order of their begin."""

    slots: tuple[Slot, ...]
    streams: int

    @property
    def seconds(self) -> float:
        return max((slot.end for slot in self.slots), default=0.0)


def critical_path(
    plan: Plan, seconds: Sequence[float], dependent: bool = False
) -> tuple[float, list[int]]:
    """The longest chain of steps that wait for each other: no number of streams is faster."""
    needs = _dependencies(plan, dependent)
    end: list[float] = []
    before: list[int | None] = []
    for i, own in enumerate(seconds):
        last = max(needs[i], key=lambda j: end[j], default=None)
        before.append(last)
        end.append(own + (0.0 if last is None else end[last]))
    at: int | None = max(range(len(end)), key=lambda i: end[i], default=None)
    total, path = (0.0 if at is None else end[at]), []
    while at is not None:
        path.append(at)
        at = before[at]
    return total, path[::-1]


def list_schedule(
    plan: Plan, seconds: Sequence[float], streams: int, dependent: bool = False
) -> Schedule:
    """Whenever a stream is free, the ready step with the longest way to the end.

    Args:
        seconds: Measured or expected time of each step.
        dependent: A task starts when the task before it has answered (the premise of
            `max_speedup`): streams then only run parts of one task, and the encoder, at once.
    """
    if streams < 1:
        raise LetsError(f"plan: streams must be at least 1, got {streams}")
    needs = _dependencies(plan, dependent)
    waiting = [len(need) for need in needs]
    readers: list[list[int]] = [[] for _ in needs]
    for i, need in enumerate(needs):
        for j in need:
            readers[j].append(i)
    rank = [0.0] * len(needs)
    for i in reversed(range(len(needs))):
        rank[i] = seconds[i] + max((rank[j] for j in readers[i]), default=0.0)
    ready = [(-rank[i], i) for i, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    free, clock = list(range(streams)), 0.0
    running: list[tuple[float, int, int]] = []  # end, step, stream
    slots: list[Slot] = []
    while ready or running:
        while ready and free:
            i, stream = heapq.heappop(ready)[1], heapq.heappop(free)
            slots.append(Slot(i, stream, clock, clock + seconds[i]))
            heapq.heappush(running, (clock + seconds[i], i, stream))
        clock, done, stream = heapq.heappop(running)
        heapq.heappush(free, stream)
        for i in readers[done]:
            waiting[i] -= 1
            if waiting[i] == 0:
                heapq.heappush(ready, (-rank[i], i))
    return Schedule(tuple(slots), streams)


def _dependencies(plan: Plan, dependent: bool) -> list[tuple[int, ...]]:
    needs = plan.dependencies()
    if not dependent:
        return needs
    if any(len(step.tasks) > 1 for step in plan.steps):
        raise LetsError("plan: tasks that wait for each other cannot be stacked; use stacked=False")
    producer = plan.producers()
    answered = {task: producer[answer.buffer] for task, answer in plan.answers.items()}
    order = list(plan.answers)
    previous = {task: answered[before] for before, task in itertools.pairwise(order)}
    out = []
    for i, need in enumerate(needs):
        owner = plan.buffers[plan.steps[i].output].tasks
        extra = {previous[owner[0]]} if owner and owner[0] in previous else set()
        out.append(tuple(sorted({*need, *extra})))
    return _in_task_order(out)


def _in_task_order(needs: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """A plan lists its tasks' steps one after the other, so waiting never points forward."""
    late = [i for i, need in enumerate(needs) if need and need[-1] >= i]
    assert not late, "steps of tasks must follow the order of the answers"
    return needs
