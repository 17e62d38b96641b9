"""Merging: the [CLS] tails of all layers become one step; only heads read them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from lets.plan.step import Buffer, Plan, Step

_MERGED = "cls_tail_layers"


def merge_tails(plan: Plan, apart: Collection[str] = ()) -> Plan:
    """One call for the tails of several layers (one launch on a GPU), where the last of them was;
    heads come after it. Tails whose rows something else than a gather reads stay as they are.

    Args:
        apart: Tasks whose tails have weights of their own (`TaskSpec.dense`).
    """
    readers = plan.readers()
    answers = {answer.buffer for answer in plan.answers.values()}
    tails = [
        step
        for step in plan.steps
        if step.op == "cls_tail"
        and step.output not in answers
        and not set(step.tasks) & set(apart)
        and all(reader.op == "gather" and reader.layer is None for reader in readers[step.output])
    ]
    if len(tails) < 2:
        return plan
    start, starts = 0, {}
    for tail in tails:
        starts[tail.output] = start
        start += _rows(plan, tail.output)
    parts = tuple((tail.layer, tail.tasks) for tail in tails if tail.layer is not None)
    merged = Step(
        _MERGED,
        tuple(name for tail in tails for name in tail.inputs),
        _MERGED,
        tasks=tuple(task for tail in tails for task in tail.tasks),
        case="+".join(sorted({case for tail in tails for case in (tail.case or "").split("+")})),
        parts=parts,
    )
    # A value of one row per task of each layer, the encoder's own rows among them.
    owners = tuple(task for tail in tails for task in (tail.tasks or ("",)))
    steps, heads = [], []
    for step in plan.steps:
        if step.op == "head" or (step.op == "gather" and step.layer is None):
            heads.append(step if step.op == "head" else _regathered(plan, step, starts))
        elif step not in tails:
            steps.append(step)
        elif step is tails[-1]:
            steps.append(merged)
    merged_plan = plan.with_steps([*steps, *heads], {_MERGED: Buffer(_MERGED, "row", owners)})
    return merged_plan.check()


def _rows(plan: Plan, name: str) -> int:
    return max(1, len(plan.buffers[name].tasks))


def _regathered(plan: Plan, step: Step, starts: dict[str, int]) -> Step:
    """The same rows, from the merged value where the tails were."""
    rows = [(name, row) for name in step.inputs for row in range(_rows(plan, name))]
    picked = [rows[pick] for pick in step.picks]
    moved = [
        (_MERGED, starts[name] + row) if name in starts else (name, row) for name, row in picked
    ]
    inputs = tuple(dict.fromkeys(name for name, _ in moved))
    start, begins = 0, {}
    for name in inputs:
        begins[name] = start
        start += sum(_rows(plan, tail) for tail in starts) if name == _MERGED else _rows(plan, name)
    return replace(step, inputs=inputs, picks=tuple(begins[name] + row for name, row in moved))
