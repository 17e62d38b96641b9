"""Costs and sizes of a plan's steps, all from `lets.cost`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lets.cost import Cost, full_tail_ops, op_cost
from lets.nnz import LayerNnz
from lets.plan.spec import TaskSpec
from lets.plan.step import DIMS, VIEWS, Buffer, Plan, Step
from lets.policy_cost import head_cost
from lets.shape import POOLER_WIDTHS, EncoderShape


def priced(
    plan: Plan,
    shape: EncoderShape,
    tasks: Sequence[TaskSpec],
    batch: int,
    seq_len: int,
    itemsize: int = 4,
) -> Plan:
    """The plan with costs and buffer sizes for inputs of B texts of S tokens."""
    specs = {spec.name: spec for spec in tasks}
    sizes = _Sizes(shape, specs, plan.buffers, batch, seq_len, itemsize)
    steps = [
        replace(step, cost=_price(step, sizes), workspace=_workspace(step, sizes))
        for step in plan.steps
    ]
    buffers = {
        step.output: replace(plan.buffers[step.output], bytes=_own_bytes(step, sizes))
        for step in steps
    }
    return replace(plan, batch=batch, seq_len=seq_len, steps=tuple(steps), buffers=buffers)


@dataclass(frozen=True)
class _Sizes:
    shape: EncoderShape
    specs: Mapping[str, TaskSpec]
    buffers: Mapping[str, Buffer]
    batch: int
    seq_len: int
    itemsize: int

    @property
    def tokens(self) -> int:
        return self.batch * self.seq_len

    def count(self, name: str) -> int:
        """How many values a buffer holds: one a task, or one for all."""
        return max(1, len(self.buffers[name].tasks))

    def dense(self, step: Step) -> bool:
        """Whether the step runs on matrices of its one task's own."""
        return step.layer is not None and any(self.specs[name].dense for name in step.tasks)

    def nnz(self, step: Step) -> LayerNnz:
        """Non-zeros that the step's tasks own of its layer."""
        total = LayerNnz()
        for name in step.tasks:
            assert step.layer is not None
            total = total + (self.specs[name].nnz.get(step.layer) or LayerNnz())
        return total

    def bytes(self, name: str) -> int:
        labels = max(spec.num_labels for spec in self.specs.values())
        hidden = self.shape.hidden_size
        dims = {
            "B": self.batch, "S": self.seq_len, "H": hidden, "2H": 2 * hidden, "3H": 3 * hidden,
            "L": self.shape.num_layers, "C": labels,
        }  # fmt: skip
        buffer, numbers = self.buffers[name], self.count(name)
        if buffer.kind == "pooled" and self.specs[buffer.tasks[0]].head == POOLER_WIDTHS:
            dims["L"] = 1  # the pooler reads one row
        for dim in DIMS[buffer.kind]:
            numbers *= dims[dim]
        return self.itemsize * numbers


def _price(step: Step, s: _Sizes) -> Cost:
    cost = _PRICES[step.op](step, s)
    return replace(cost, params=cost.params + _own_matrices(step, s)) if s.dense(step) else cost


def _own_matrices(step: Step, s: _Sizes) -> int:
    """New parameters of a dense task: the matrices that a step reads, and biases beside them."""
    hidden, full = s.shape.hidden_size, LayerNnz.full(s.shape)
    return {
        "project": full.qkv + 2 * hidden,
        "project_query": full.query + hidden,
        "cls_attention": full.key + full.value,
        "full_tail": full.tail,
        "cls_tail": full.tail,
    }.get(step.op, 0)


def _embed(step: Step, s: _Sizes) -> Cost:
    return Cost(0, s.bytes(step.output))


def _linear(width: int) -> Callable[[Step, _Sizes], Cost]:
    def price(step: Step, s: _Sizes) -> Cost:
        rows = s.batch if s.buffers[step.inputs[0]].kind == "row" else s.tokens
        return op_cost(
            "linear",
            tokens=s.count(step.output) * rows,
            in_features=s.shape.hidden_size,
            out_features=width * s.shape.hidden_size,
            itemsize=s.itemsize,
        )

    return price


def _delta_qkv(step: Step, s: _Sizes) -> Cost:
    hidden = s.shape.hidden_size
    return op_cost(
        "delta_linear",
        tokens=s.tokens, in_features=hidden, out_features=3 * hidden, nnz=s.nnz(step).qkv,
        bias=2 * hidden * len(step.tasks), tasks=len(step.tasks),
        shared=s.count(step.inputs[1]) == 1, itemsize=s.itemsize,
    )  # fmt: skip


def _delta_query(step: Step, s: _Sizes) -> Cost:
    hidden = s.shape.hidden_size
    return op_cost(
        "delta_linear",
        tokens=s.batch, in_features=hidden, out_features=hidden, nnz=s.nnz(step).query,
        bias=hidden * len(step.tasks), tasks=len(step.tasks),
        shared=s.count(step.inputs[1]) == 1, itemsize=s.itemsize,
    )  # fmt: skip


def _attention(step: Step, s: _Sizes) -> Cost:
    return op_cost(
        "attention",
        batch=s.batch, seq_len=s.seq_len, hidden=s.shape.hidden_size,
        tasks=s.count(step.output), itemsize=s.itemsize,
    )  # fmt: skip


def _cls_attention(step: Step, s: _Sizes) -> Cost:
    formed = step.op == "row_attention"  # on the task's complete keys and values
    nnz = LayerNnz() if formed else s.nnz(step)
    hidden = s.shape.hidden_size
    return op_cost(
        "cls_attention",
        batch=s.batch, seq_len=s.seq_len, hidden=hidden, num_heads=s.shape.num_heads,
        key_nnz=nnz.key, value_nnz=nnz.value, cached=formed or len(step.inputs) == 3,
        bias=0 if formed else hidden * len(step.tasks),
        tasks=s.count(step.output), itemsize=s.itemsize,
    )  # fmt: skip


def _full_tail(step: Step, s: _Sizes) -> Cost:
    own = len(step.tasks)
    deltas = s.nnz(step) if own and not s.dense(step) else None
    ops = full_tail_ops(s.shape, s.tokens, deltas, s.count(step.output), s.itemsize)
    cost = Cost.total(op.cost for op in ops)
    return cost if own else replace(cost, params=0)


def _cls_tail(step: Step, s: _Sizes) -> Cost:
    cost = op_cost(
        "cls_tail",
        rows=s.batch, hidden=s.shape.hidden_size, intermediate=s.shape.intermediate_size,
        nnz=s.nnz(step).tail, tasks=s.count(step.output), itemsize=s.itemsize,
    )  # fmt: skip
    return cost if step.tasks else replace(cost, params=0)


def _cls_tail_layers(step: Step, s: _Sizes) -> Cost:
    """The sum of its layers."""
    contexts = step.inputs[::2]
    return Cost.total(
        _cls_tail(Step("cls_tail", (), ctx, layer, tasks), s)
        for ctx, (layer, tasks) in zip(contexts, step.parts, strict=True)
    )


def _gather(step: Step, s: _Sizes) -> Cost:
    return Cost(0, 0 if is_view(step) else 2 * s.bytes(step.output))


def _head(step: Step, s: _Sizes) -> Cost:
    specs = [s.specs[name] for name in step.tasks]
    return Cost.total(
        head_cost(s.shape, spec.num_labels, "engine", s.batch, s.itemsize, spec.head)
        for spec in specs
    )


def _workspace(step: Step, s: _Sizes) -> int:
    """After the attention over all rows: h, and both sides of the activation function."""
    if step.op != "full_tail":
        return 0
    width = s.shape.hidden_size + 2 * s.shape.intermediate_size
    return s.itemsize * s.count(step.output) * s.tokens * width


def is_view(step: Step) -> bool:
    """Whether the output is part of an input's memory."""
    if step.op != "gather":
        return step.op in VIEWS
    first, last = step.picks[0], step.picks[-1]
    return len(step.inputs) == 1 and step.picks == tuple(range(first, last + 1))


def _own_bytes(step: Step, s: _Sizes) -> int:
    return 0 if is_view(step) else s.bytes(step.output)


def _free(step: Step, s: _Sizes) -> Cost:
    return Cost()


_PRICES: dict[str, Callable[[Step, _Sizes], Cost]] = {
    "embed": _embed,
    "project": _linear(3),
    "project_query": _linear(1),
    "project_key_value": _linear(2),
    "query": _free,
    "row": _free,
    "delta_qkv": _delta_qkv,
    "delta_query": _delta_query,
    "attention": _attention,
    "row_attention": _cls_attention,
    "cls_attention": _cls_attention,
    "full_tail": _full_tail,
    "cls_tail": _cls_tail,
    "cls_tail_layers": _cls_tail_layers,
    "gather": _gather,
    "head": _head,
}
