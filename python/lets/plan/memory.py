"""Lifetimes of a plan's buffers, and how much memory they need when it is used again."""

from __future__ import annotations

from dataclasses import dataclass

from lets.plan.price import is_view
from lets.plan.step import Plan

_ALIGNMENT = 64


@dataclass(frozen=True)
class Slot:
    """A buffer's place in one arena, and the steps between which it must not be overwritten."""

    buffer: str
    offset: int
    bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class MemoryPlan:
    """Places of all buffers with memory of their own.

    Args:
        arena: Bytes of the arena.
        alive: The most bytes of buffers alive at once: no arena can be smaller.
        peak: The same with what the steps need while they run.
        total: Bytes if nothing were used again.
    """

    slots: tuple[Slot, ...]
    arena: int
    alive: int
    peak: int
    total: int


def lifetimes(plan: Plan) -> dict[str, tuple[int, int]]:
    """First and last step of each buffer with memory of its own; a view keeps its source alive."""
    owners: dict[str, tuple[str, ...]] = {}
    spans: dict[str, tuple[int, int]] = {}
    for i, step in enumerate(plan.steps):
        sources = tuple(owner for name in step.inputs for owner in owners[name])
        for owner in sources:
            spans[owner] = spans[owner][0], i
        if is_view(step):
            owners[step.output] = sources
        else:
            owners[step.output] = (step.output,)
            spans[step.output] = i, i
    for answer in plan.answers.values():
        for owner in owners[answer.buffer]:
            spans[owner] = spans[owner][0], len(plan.steps)
    return spans


def last_uses(plan: Plan) -> list[tuple[str, ...]]:
    """For each step the values, views too, that nobody reads after it."""
    last = {step.output: i for i, step in enumerate(plan.steps)}
    for i, step in enumerate(plan.steps):
        last.update(dict.fromkeys(step.inputs, i))
    kept = {answer.buffer for answer in plan.answers.values()}
    released: list[list[str]] = [[] for _ in plan.steps]
    for name, i in last.items():
        if name not in kept:
            released[i].append(name)
    return [tuple(names) for names in released]


def plan_memory(plan: Plan) -> MemoryPlan:
    """Offsets by first fit, largest buffers first (they are the hardest to place)."""
    spans = lifetimes(plan)
    sizes = {name: -(-plan.buffers[name].bytes // _ALIGNMENT) * _ALIGNMENT for name in spans}
    placed: list[Slot] = []
    for name in sorted(spans, key=lambda name: (-sizes[name], spans[name])):
        first, last = spans[name]
        offset = 0
        rivals = (s for s in placed if s.first <= last and first <= s.last)
        for slot in sorted(rivals, key=lambda slot: slot.offset):
            if offset + sizes[name] <= slot.offset:
                break
            offset = max(offset, slot.offset + slot.bytes)
        placed.append(Slot(name, offset, sizes[name], first, last))
    placed.sort(key=lambda slot: (slot.first, slot.offset))
    alive = [sum(s.bytes for s in placed if s.first <= i <= s.last) for i in range(len(plan.steps))]
    return MemoryPlan(
        tuple(placed),
        max((slot.offset + slot.bytes for slot in placed), default=0),
        max(alive, default=0),
        max((own + step.workspace for own, step in zip(alive, plan.steps)), default=0),
        sum(slot.bytes for slot in placed),
    )
