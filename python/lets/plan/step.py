"""Plan, Step, Buffer: what is computed and in which order, as data that prints and compares."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lets.cost import Cost
from lets.errors import LetsError

# Sizes that a buffer's shape is made of, after its leading tasks.
DIMS = {
    "x": ("B", "S", "H"),
    "qkv": ("B", "S", "3H"),
    "key_value": ("B", "S", "2H"),
    "ctx": ("B", "S", "H"),
    "row": ("B", "H"),
    "pooled": ("L", "B", "H"),
    "logits": ("B", "C"),
}
# op -> kind of its output. A gather's output is of its inputs' kind, or `pooled` before a head.
OUTPUTS = {
    "embed": "x",
    "project": "qkv",
    "project_query": "row",
    "project_key_value": "key_value",
    "query": "row",
    "delta_qkv": "qkv",
    "delta_query": "row",
    "attention": "ctx",
    "row_attention": "row",
    "cls_attention": "row",
    "full_tail": "x",
    "cls_tail": "row",
    "cls_tail_layers": "row",
    "row": "row",
    "head": "logits",
}
# Rows of another buffer: nothing is computed or moved.
VIEWS = ("query", "row")


_UNPRICED = Cost()


@dataclass(frozen=True)
class Buffer:
    """A value of the plan.

    Args:
        kind: A key of `DIMS`.
        tasks: Its leading dimension, in order; empty: one value that all tasks share.
        bytes: Memory of its own; 0 for views.
    """

    name: str
    kind: str
    tasks: tuple[str, ...] = ()
    bytes: int = 0


@dataclass(frozen=True)
class Step:
    """One call of an op.

    Args:
        op: A key of `OUTPUTS`, or `gather`.
        inputs: Buffer names; what a step depends on follows from them.
        layer: Of the encoder; None for `embed` and what follows the layers.
        tasks: Whose own parameters it reads, in order; empty: the frozen encoder alone.
        case: What the layer is to these tasks (`LayerCase`); several joined by +.
        picks: `gather` alone: output row k is row picks[k] of its inputs, one after another.
        parts: `cls_tail_layers` alone: layers and their tasks; inputs are ctx and row of each, and
            outputs stand one after another.
        workspace: Bytes that it needs while it runs, beside inputs and output.
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    layer: int | None = None
    tasks: tuple[str, ...] = ()
    case: str | None = None
    picks: tuple[int, ...] = ()
    cost: Cost = _UNPRICED
    workspace: int = 0
    parts: tuple[tuple[int, tuple[str, ...]], ...] = ()


@dataclass(frozen=True)
class Answer:
    """Where a task's logits are: a row of a buffer, and how many of its columns."""

    buffer: str
    row: int
    num_labels: int


@dataclass(frozen=True)
class Plan:
    """Steps in an order in which they can run.

    Args:
        batch, seq_len: Sizes that costs and bytes are for; the steps are the same for all.
        answers: By task.
    """

    encoder: str
    batch: int
    seq_len: int
    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    answers: Mapping[str, Answer]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.answers)

    @property
    def cost(self) -> Cost:
        return Cost.total(step.cost for step in self.steps)

    def producers(self) -> dict[str, int]:
        """Index of the step that writes each buffer."""
        return {step.output: i for i, step in enumerate(self.steps)}

    def dependencies(self) -> list[tuple[int, ...]]:
        """For each step the steps that it waits for."""
        producer = self.producers()
        return [tuple(sorted({producer[name] for name in s.inputs})) for s in self.steps]

    def readers(self) -> dict[str, list[Step]]:
        """Steps that read each buffer; a buffer that nobody reads has an empty list."""
        readers: dict[str, list[Step]] = {step.output: [] for step in self.steps}
        for step in self.steps:
            for name in dict.fromkeys(step.inputs):
                readers[name].append(step)
        return readers

    def with_steps(
        self, steps: Iterable[Step], buffers: Mapping[str, Buffer] | None = None
    ) -> Plan:
        """Other steps; buffers that they do not write are dropped."""
        steps, known = tuple(steps), {**self.buffers, **(buffers or {})}
        kept = {step.output: known[step.output] for step in steps}
        return replace(self, steps=steps, buffers=kept)

    def check(self) -> Plan:
        """The plan itself if every step reads what an earlier one wrote, once."""
        written: set[str] = set()
        for step in self.steps:
            missing = [name for name in step.inputs if name not in written]
            if missing or step.output in written:
                what = f"reads {missing[0]} too early" if missing else "writes its output again"
                raise LetsError(f"plan: step {step.op} -> {step.output} {what}")
            written.add(step.output)
        lost = [task for task, answer in self.answers.items() if answer.buffer not in written]
        if lost:
            raise LetsError(f"plan: nothing answers for task {lost[0]}")
        return self

    def to_dict(self) -> dict[str, Any]:
        data = asdict(self)
        data["buffers"] = list(data["buffers"].values())
        return data

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Rebuild a plan from `to_dict`, or from what JSON made of it."""
        try:
            buffers = [Buffer(**_tuples(entry)) for entry in data["buffers"]]
            steps = [
                Step(**{**_tuples(entry), "cost": Cost(**entry["cost"])}) for entry in data["steps"]
            ]
            answers = {task: Answer(**entry) for task, entry in data["answers"].items()}
            rest = {name: data[name] for name in ("encoder", "batch", "seq_len")}
        except (KeyError, TypeError, AttributeError) as error:
            raise LetsError(f"plan: not a plan's JSON: {error!r}") from error
        by_name = {buffer.name: buffer for buffer in buffers}
        return cls(**rest, steps=tuple(steps), buffers=by_name, answers=answers).check()

    @classmethod
    def from_json(cls, text: str) -> Plan:
        try:
            return cls.from_dict(json.loads(text))
        except ValueError as error:
            raise LetsError(f"plan: not a plan's JSON: {error}") from error

    def __str__(self) -> str:
        lines = [f"plan of {len(self.answers)} tasks on {self.encoder}"]
        for step in self.steps:
            layer = "" if step.layer is None else f"{step.layer}"
            owners = ",".join(step.tasks) or "-"
            lines.append(
                f"{layer:>3} {step.op:<18}{step.case or '-':<12}{owners:<24}"
                f"{step.output} <- {' '.join(step.inputs)}"
            )
        return "\n".join(lines)


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _tuple(value) for name, value in entry.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
