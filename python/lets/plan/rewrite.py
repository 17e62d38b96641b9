"""Rewrite rules: each a pure function from plan to plan that keeps every answer equal.

They know what ops mean, not what policies are: what a policy allows shows in who reads what.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from lets.plan.step import OUTPUTS, Buffer, Plan, Step


def share_equal_steps(plan: Plan) -> Plan:
    """Steps that compute the same are done once: Q, K, V of the frozen encoder, [CLS] rows."""
    first: dict[tuple[object, ...], str] = {}
    names: dict[str, str] = {}
    kept = []
    for step in plan.steps:
        inputs = tuple(names.get(name, name) for name in step.inputs)
        key = (step.op, step.layer, step.tasks, step.picks, inputs)
        if key in first:
            names[step.output] = first[key]
            continue
        first[key] = step.output
        kept.append(replace(step, inputs=inputs))
    return plan.with_steps(kept)


def drop_dead_steps(plan: Plan) -> Plan:
    """Bypass: layers that no answer depends on are not run, and the encoder only as far as read."""
    needed = {answer.buffer for answer in plan.answers.values()}
    kept = []
    for step in reversed(plan.steps):
        if step.output in needed:
            needed.update(step.inputs)
            kept.append(step)
    return plan.with_steps(reversed(kept))


def cls_tail_only(plan: Plan) -> Plan:
    """A layer of which only the [CLS] row is read ends in that row (METHOD section 4)."""

    def apply(step: Step, edit: _Edit) -> bool:
        if step.op != "full_tail" or not edit.read_only_by(step.output, "row"):
            return False
        ctx, x = step.inputs
        edit.add(step, "cls_tail", (edit.row(ctx), edit.row(x)), edit.take_rows(step.output))
        return True

    return _Edit(plan).run(apply)


def cls_attention_only(plan: Plan) -> Plan:
    """Attention of which only the [CLS] row is read has one query."""

    def apply(step: Step, edit: _Edit) -> bool:
        if step.op != "attention" or not edit.read_only_by(step.output, "row"):
            return False
        edit.add(step, "row_attention", step.inputs, edit.take_rows(step.output))
        return True

    return _Edit(plan).run(apply)


def never_form_keys_and_values(plan: Plan) -> Plan:
    """One query attends without keys and values of the task: exact algebra on cached products, or
    on the task's own x (`lets_ext.cls_attention`)."""

    def apply(step: Step, edit: _Edit) -> bool:
        if step.op != "row_attention":
            return False
        source = edit.producer[step.inputs[0]]
        owned = source.op == "delta_qkv"
        if not owned and source.op != "project":
            return False
        alone = len(edit.readers[source.output]) == 1
        if owned and not alone:
            return False
        product, x = source.inputs if owned else (source.output, source.inputs[0])
        # A task's product is on x^f and nobody else's; the frozen encoder's may have other readers.
        cached = not edit.buffers[x].tasks if owned else not alone
        if cached:
            q = edit.add(step, "query", (product,), tasks=())
        else:
            # By the encoder's matrix, or by that of a dense task, which made the product itself.
            owners = () if owned else source.tasks
            q = edit.add(step, "project_query", (edit.row(x),), tasks=owners)
        if owned:
            q = edit.add(step, "delta_query", (q, edit.row(x)))
        inputs = (q, x, product) if cached else (q, x)
        edit.add(step, "cls_attention", inputs, step.output)
        return True

    return _Edit(plan).run(apply)


def query_of_one_row(plan: Plan) -> Plan:
    """A frozen product that only [CLS] queries read is Q of one row, and K and V of all."""

    def apply(step: Step, edit: _Edit) -> bool:
        if step.op != "project" or not edit.read_only_by(step.output, "query", "cls_attention"):
            return False
        (x,) = step.inputs
        q = edit.add(step, "project_query", (edit.row(x),))
        for reader in edit.readers[step.output]:
            if reader.op == "query":
                edit.renamed[reader.output] = q
        edit.renamed[step.output] = edit.add(step, "project_key_value", (x,))
        return True

    return _Edit(plan).run(apply)


class _Edit:
    """One pass over a plan: steps are kept, or replaced where they stand."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.readers = plan, plan.readers()
        self.producer = {step.output: step for step in plan.steps}
        self.buffers = dict(plan.buffers)
        self.steps: list[Step] = []
        self.renamed: dict[str, str] = {}

    def run(self, apply: Callable[[Step, _Edit], bool]) -> Plan:
        for step in self.plan.steps:
            if step.output in self.renamed:  # a reader that was replaced with its input
                continue
            step = replace(step, inputs=tuple(self.renamed.get(n, n) for n in step.inputs))
            if not apply(step, self):
                self.steps.append(step)
        return self.plan.with_steps(self.steps, self.buffers)

    def read_only_by(self, name: str, *ops: str) -> bool:
        return bool(self.readers[name]) and all(r.op in ops for r in self.readers[name])

    def take_rows(self, name: str) -> str:
        """The name under which the [CLS] row of a value is read; its readers go."""
        first, *others = (reader.output for reader in self.readers[name])
        self.renamed |= dict.fromkeys(others, first)
        self.renamed[first] = first
        return first

    def row(self, x: str) -> str:
        """The [CLS] row of a value, of the layer that makes the value."""
        origin = replace(self.producer[x], tasks=())
        return self.add(origin, "row", (x,), self._name(f"{x}.row"))

    def add(
        self,
        origin: Step,
        op: str,
        inputs: tuple[str, ...],
        output: str | None = None,
        tasks: tuple[str, ...] | None = None,
    ) -> str:
        """A step in place of `origin`, with its layer, tasks and case."""
        output = self._name(f"{origin.output}.{op}") if output is None else output
        owners = origin.tasks if tasks is None else tasks
        self.steps.append(Step(op, inputs, output, origin.layer, owners, origin.case))
        made = owners or self.buffers[inputs[0]].tasks
        self.buffers[output] = Buffer(output, OUTPUTS[op], made)
        return output

    def _name(self, base: str) -> str:
        """The base, or the base with the first number that is not taken."""
        names = (base if count == 0 else f"{base}.{count}" for count in itertools.count())
        return next(name for name in names if name not in self.buffers)
