"""From an encoder's shape and tasks to a plan: the naive one, and what rewriting makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from lets.errors import LetsError
from lets.plan import rewrite
from lets.plan.merging import merge_tails
from lets.plan.price import priced
from lets.plan.spec import TaskSpec
from lets.plan.stacking import stack, stack_order
from lets.plan.step import OUTPUTS, Answer, Buffer, Plan, Step
from lets.shape import POOLER_WIDTHS, EncoderShape

Rule = Callable[[Plan], Plan]

# In this order; each keeps the answers equal. What a rule makes possible, a later one uses.
RULES: tuple[Rule, ...] = (
    rewrite.share_equal_steps,
    rewrite.drop_dead_steps,
    rewrite.cls_tail_only,
    rewrite.cls_attention_only,
    rewrite.never_form_keys_and_values,
    rewrite.drop_dead_steps,
    rewrite.query_of_one_row,
    rewrite.share_equal_steps,
    rewrite.drop_dead_steps,
)


def compile_plan(
    shape: EncoderShape,
    tasks: Sequence[TaskSpec],
    batch: int = 1,
    seq_len: int = 128,
    *,
    stacked: bool = True,
    row_limit: int | None = None,
    merged: bool = False,
    among: Sequence[TaskSpec] | None = None,
    rules: Iterable[Rule] = RULES,
    itemsize: int = 4,
) -> Plan:
    """The plan of a set of tasks, rewritten and with its costs.

    Args:
        stacked: Steps of one op and layer become one step for several tasks.
        row_limit: At most so many rows B · S in a stacked step over all rows (memory).
        merged: The [CLS] tails of all layers become one step.
        among: All loaded tasks, of which these are some; only neighbours in their stacks become
            one step, so that no task's weights are copied. Default: the tasks themselves.
    """
    if not tasks:
        raise LetsError("plan: tasks must hold at least one task, got none")
    if batch < 1 or seq_len < 1:
        raise LetsError(f"plan: batch and seq_len must be positive, got {batch} and {seq_len}")
    plan = naive_plan(shape, tasks)
    for rule in rules:
        plan = rule(plan)
    if stacked:
        orders = stack_order(tasks if among is None else among)
        limit = None if row_limit is None else max(1, row_limit // (batch * seq_len))
        plan = stack(plan, tasks, orders, limit)
    if merged:
        plan = merge_tails(plan, [task.name for task in tasks if task.dense])
    return priced(plan.check(), shape, tasks, batch, seq_len, itemsize)


def naive_plan(shape: EncoderShape, tasks: Sequence[TaskSpec]) -> Plan:
    """Every layer of the encoder and of every task in full; nothing is shared or left out."""
    builder = _Builder()
    builder.add("embed", (), "x.in")
    x = ["x.in"]
    for j in range(shape.num_layers):
        x.append(builder.layer(j, x[j], f"x{j}", ()))
    answers = {}
    for task in tasks:
        if task.name in answers:
            raise LetsError(f"plan: tasks must have different names, got {task.name} twice")
        policy = task.policy.check_num_layers(shape.num_layers, shape.name)
        own, rows = x[0], []
        for j, case in enumerate(policy.cases):
            name, owner = f"{task.name}.x{j}", (task.name,)
            if policy.input[j] == "s":
                own = builder.stream(j, x[j], own, name, owner, str(case), task.dense)
            else:
                source = x[j] if policy.input[j] == "p" else own
                own = builder.layer(j, source, name, owner, str(case), task.dense)
            pooled = x[j + 1] if policy.pool[j] == "p" else own
            rows.append(builder.row(pooled, f"{task.name}.row{j}", j))
        pooled, logits = f"{task.name}.pooled", f"{task.name}.logits"
        if task.head == POOLER_WIDTHS:  # the pooler reads the last row
            rows = rows[-1:]
        picks = tuple(range(len(rows)))
        builder.add("gather", tuple(rows), pooled, tasks=(task.name,), picks=picks)
        builder.add("head", (pooled,), logits, tasks=(task.name,))
        answers[task.name] = Answer(logits, 0, task.num_labels)
    return Plan(shape.name, 1, 1, tuple(builder.steps), builder.buffers, answers).check()


class _Builder:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.buffers: dict[str, Buffer] = {}

    def add(
        self,
        op: str,
        inputs: tuple[str, ...],
        output: str,
        layer: int | None = None,
        tasks: tuple[str, ...] = (),
        case: str | None = None,
        picks: tuple[int, ...] = (),
    ) -> str:
        self.steps.append(Step(op, inputs, output, layer, tasks, case, picks=picks))
        # A step of the frozen encoder makes as many values as it reads.
        owners = tasks or (self.buffers[inputs[0]].tasks if inputs else ())
        kind = "pooled" if op == "gather" else OUTPUTS[op]
        self.buffers[output] = Buffer(output, kind, owners)
        return output

    def row(self, x: str, output: str, layer: int) -> str:
        """The [CLS] row of a value, which may be nothing else."""
        return x if self.buffers[x].kind == "row" else self.add("row", (x,), output, layer)

    def stream(
        self,
        j: int,
        x: str,
        below: str,
        out: str,
        tasks: tuple[str, ...],
        case: str,
        dense: bool,
    ) -> str:
        """A layer of the [CLS] stream: the row of the layer below attends to x. It is the one whose
        keys and values are nowhere formed from the start: of their own no row of it has any."""
        row = self.row(below, f"{out}.below", j - 1)
        q = self.add("project_query", (row,), f"{out}.frozen_q", j, tasks if dense else (), case)
        if dense:
            read: tuple[str, ...] = (q, x)
        else:
            q = self.add("delta_query", (q, row), f"{out}.q", j, tasks, case)
            read = (q, x, self.add("project", (x,), f"{out}.frozen_qkv", j, (), case))
        ctx = self.add("cls_attention", read, f"{out}.ctx", j, tasks, case)
        return self.add("cls_tail", (ctx, row), out, j, tasks, case)

    def layer(
        self,
        j: int,
        x: str,
        out: str,
        tasks: tuple[str, ...],
        case: str | None = None,
        dense: bool = False,
    ) -> str:
        name = f"{out}.qkv" if dense else f"{out}.frozen_qkv"
        qkv = self.add("project", (x,), name, j, tasks if dense else (), case)
        if tasks and not dense:
            qkv = self.add("delta_qkv", (qkv, x), f"{out}.qkv", j, tasks, case)
        ctx = self.add("attention", (qkv,), f"{out}.ctx", j, tasks, case)
        return self.add("full_tail", (ctx, x), out, j, tasks, case)
