"""Stacking: steps of one op and layer become one step for several tasks.

The frozen weights are then read once for all of them. Steps over [CLS] rows (queries, tails) take
tasks of both inputs, p and f, together; steps over all rows only those whose inputs are alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from lets.plan.spec import TaskSpec
from lets.plan.step import Buffer, Plan, Step

# Order of the ops within a layer; every op reads only what stands before it.
_RANK = {
    op: rank
    for rank, op in enumerate(
        (
            "embed", "project", "project_key_value", "query", "project_query", "delta_qkv",
            "delta_query", "attention", "row_attention", "cls_attention", "row of ctx", "cls_tail",
            "full_tail", "row", "gather", "head",
        )
    )
}  # fmt: skip
_ALL_ROWS = ("project", "delta_qkv", "attention", "full_tail")
_HEAD = None  # the layer under which heads are kept

StackKey = tuple[int | None, Hashable]


def stack_key(spec: TaskSpec, layer: int | None) -> StackKey:
    """In which stack a task's weights of a layer are; `None`: its head."""
    if layer is _HEAD:
        return layer, spec.head
    return layer, spec.name if spec.dense else spec.policy.feeds[layer]


def stack_order(tasks: Iterable[TaskSpec]) -> dict[StackKey, tuple[str, ...]]:
    """The tasks of every stack, such that those that run together are neighbours."""
    ordered = sorted(tasks, key=lambda spec: (spec.rank, spec.policy.input, spec.policy.pool))
    stacks: dict[StackKey, list[TaskSpec]] = {}
    for spec in ordered:
        for layer in (*spec.policy.live_layers, _HEAD):
            stacks.setdefault(stack_key(spec, layer), []).append(spec)

    def source(spec: TaskSpec, layer: int | None) -> tuple[int, str]:
        return spec.rank, "" if layer is _HEAD else spec.policy.input[layer]

    return {
        key: tuple(s.name for s in sorted(stack, key=lambda spec: source(spec, key[0])))
        for key, stack in stacks.items()
    }


def stack(
    plan: Plan,
    tasks: Sequence[TaskSpec],
    orders: Mapping[StackKey, Sequence[str]],
    limit: int | None = None,
) -> Plan:
    """Stack a plan of single tasks.

    Args:
        orders: Tasks of every stack (`stack_order`); only neighbours become one step.
        limit: At most so many tasks in a step over all rows.
    """
    return _Stacking(plan, tasks, orders, limit).run()


class _Stacking:
    def __init__(
        self,
        plan: Plan,
        tasks: Sequence[TaskSpec],
        orders: Mapping[StackKey, Sequence[str]],
        limit: int | None,
    ) -> None:
        self.plan, self.limit = plan, limit
        self.specs = {spec.name: spec for spec in tasks}
        self.position = {
            key: {name: i for i, name in enumerate(order)} for key, order in orders.items()
        }
        self.steps: list[Step] = []
        self.buffers: dict[str, Buffer] = {}
        self.place: dict[str, tuple[str, int]] = {}  # single buffer -> stacked buffer and row
        self.gathered: dict[tuple[tuple[str, int], ...], str] = {}

    def run(self) -> Plan:
        classes: dict[tuple[int, int], list[Step]] = {}
        for step in self.plan.steps:
            classes.setdefault(self._rank(step), []).append(step)
        for _, steps in sorted(classes.items()):
            for group in self._groups(steps):
                self._emit(group)
        answers = {
            task: replace(a, buffer=self.place[a.buffer][0], row=self.place[a.buffer][1])
            for task, a in self.plan.answers.items()
        }
        stacked = replace(self.plan, answers=answers)
        return stacked.with_steps(self.steps, self.buffers).check()

    def _rank(self, step: Step) -> tuple[int, int]:
        if step.op in ("gather", "head"):
            return 1 << 30, _RANK[step.op]
        of_ctx = step.op == "row" and self.plan.buffers[step.inputs[0]].kind == "ctx"
        return -1 if step.layer is None else step.layer, _RANK["row of ctx" if of_ctx else step.op]

    def _groups(self, steps: Sequence[Step]) -> Iterator[list[Step]]:
        alike: dict[Hashable, list[Step]] = {}
        for step in steps:
            alike.setdefault(self._likeness(step), []).append(step)
        for group in alike.values():
            if self._owner(group[0]) and group[0].op != "row":
                yield from self._runs(group)
            else:
                yield group

    def _owner(self, step: Step) -> str | None:
        tasks = self.plan.buffers[step.output].tasks
        return tasks[0] if tasks else None

    def _likeness(self, step: Step) -> Hashable:
        owner = self._owner(step)
        if step.op == "row":  # of a stacked value: one view for all of its tasks
            return self.place[step.inputs[0]][0]
        if owner is None:
            return step.output
        key = stack_key(self.specs[owner], None if step.op in ("gather", "head") else step.layer)
        if step.op in _ALL_ROWS or step.op == "cls_attention":
            return key, tuple(bool(self.plan.buffers[name].tasks) for name in step.inputs)
        return key

    def _runs(self, group: list[Step]) -> Iterator[list[Step]]:
        first = self._owner(group[0])
        assert first is not None
        layer = None if group[0].op in ("gather", "head") else group[0].layer
        position = self.position[stack_key(self.specs[first], layer)]
        limit = self.limit if group[0].op in _ALL_ROWS else None
        places = sorted((position[self._owner(step) or ""], i) for i, step in enumerate(group))
        run: list[Step] = []
        for previous, (place, i) in zip([None, *places], places):
            broken = previous is not None and place != previous[0] + 1
            if run and (broken or len(run) == limit):
                yield run
                run = []
            run.append(group[i])
        yield run

    def _emit(self, group: list[Step]) -> None:
        step = group[0]
        if step.op == "row":
            self._emit_row(group)
            return
        owners = tuple(task for s in group for task in self.plan.buffers[s.output].tasks)
        if step.op == "gather":
            entries = tuple(self.place[name] for s in group for name in s.inputs)
            output = self._gather(entries, owners, self.plan.buffers[step.output].kind, step)
        else:
            columns = zip(*(s.inputs for s in group))
            inputs = tuple(self._input(column, owners, step) for column in columns)
            cases = sorted({s.case for s in group if s.case is not None})
            output = self._name(step)
            self.steps.append(
                replace(
                    step,
                    inputs=inputs,
                    output=output,
                    tasks=owners if step.tasks else (),
                    case="+".join(cases) or None,
                )
            )
            self.buffers[output] = replace(
                self.plan.buffers[step.output], name=output, tasks=owners
            )
        for row, s in enumerate(group):
            self.place[s.output] = output, row

    def _emit_row(self, group: list[Step]) -> None:
        """A view of a stacked value holds the rows of all of its tasks."""
        step, source = group[0], self.place[group[0].inputs[0]][0]
        output = f"{source}.row"
        self.steps.append(replace(step, inputs=(source,), output=output, case=None))
        self.buffers[output] = Buffer(output, "row", self.buffers[source].tasks)
        for s in group:
            self.place[s.output] = output, self.place[s.inputs[0]][1]

    def _input(self, names: tuple[str, ...], owners: tuple[str, ...], step: Step) -> str:
        entries = tuple(self.place[name] for name in names)
        first = entries[0][0]
        if all(entry == entries[0] for entry in entries) and not self.buffers[first].tasks:
            return first  # what all tasks share has a leading 1
        if step.op == "head":
            return first  # gathered for these tasks
        return self._gather(entries, owners, self.buffers[first].kind, step)

    def _gather(
        self, entries: tuple[tuple[str, int], ...], owners: tuple[str, ...], kind: str, step: Step
    ) -> str:
        """The value with these rows: one that is there, or a new one."""
        first = entries[0][0]
        rows = max(1, len(self.buffers[first].tasks))
        if entries == tuple((first, row) for row in range(rows)):
            return first
        if entries in self.gathered:
            return self.gathered[entries]
        sources = tuple(dict.fromkeys(name for name, _ in entries))
        start, starts = 0, {}
        for name in sources:
            starts[name] = start
            start += max(1, len(self.buffers[name].tasks))
        picks = tuple(starts[name] + row for name, row in entries)
        layer = None if kind == "pooled" else step.layer
        output = self._name(Step("gather", (), "", layer))
        self.steps.append(
            Step("gather", sources, output, layer, owners if layer is None else (), None, picks)
        )
        self.buffers[output] = Buffer(output, kind, owners)
        self.gathered[entries] = output
        return output

    def _name(self, step: Step) -> str:
        base = step.op if step.layer is None else f"{step.op}{step.layer}"
        name, count = base, 0
        while name in self.buffers:
            count += 1
            name = f"{base}.{count}"
        return name
