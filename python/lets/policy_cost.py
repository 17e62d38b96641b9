"""What whole policies cost: a task's layers and head, and the frozen layers that a set needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lets.cost import Accounting, Cost, dense_layer_cost, layer_cost, op_cost
from lets.nnz import LayerNnz, TaskNnz, policy_nnz
from lets.policy import LayerCase, Policy
from lets.shape import POOLER_WIDTHS, EncoderShape, head_sizes


@dataclass(frozen=True)
class TaskCost:
    """One task: its policy, its layers bottom to top, its head, and its non-zeros."""

    policy: Policy
    layers: tuple[Cost, ...]
    head: Cost
    nnz: int

    @property
    def total(self) -> Cost:
        return Cost.total((*self.layers, self.head))


def task_cost(
    shape: EncoderShape,
    policy: Policy,
    seq_len: int,
    nnz: float | TaskNnz | None,
    accounting: Accounting = "engine",
    num_labels: int = 2,
    batch: int = 1,
    itemsize: int = 4,
    head: tuple[int, int] | None = None,
) -> TaskCost:
    """What a task adds, frozen layers aside.

    Args:
        nnz: The density of the masks, or the counted non-zeros of each live layer; None: dense
            live layers (LeTS-(c)).
        head: Its widths, see `head_cost`.
    """
    policy.check_num_layers(shape.num_layers, shape.name)
    counts = policy_nnz(shape, policy, nnz)
    layers = tuple(
        layer_cost(shape, case, seq_len, counts.get(j, LayerNnz()), accounting, batch, itemsize)
        for j, case in enumerate(policy.cases)
    )
    own_head = head_cost(shape, num_labels, accounting, batch, itemsize, head)
    kept = sum(count.total for count in counts.values() if count is not None)
    return TaskCost(policy, layers, own_head, kept)


def head_cost(
    shape: EncoderShape,
    num_labels: int,
    accounting: Accounting = "engine",
    batch: int = 1,
    itemsize: int = 4,
    widths: tuple[int, int] | None = None,
) -> Cost:
    """A task's head (METHOD section 5); the paper counts no FLOPs.

    Args:
        widths: Of the projection and of one direction of the LSTM, or `POOLER_WIDTHS`; None: the
            layer-wise head's default ones.
    """
    hidden = shape.hidden_size
    projection, lstm = head_sizes(hidden) if widths is None else widths
    if widths == POOLER_WIDTHS:
        steps = [
            _with_bias("linear", batch, hidden, hidden, itemsize),
            _with_bias("linear", batch, hidden, num_labels, itemsize),
        ]
    else:
        rows = batch * shape.num_layers
        steps = [
            _with_bias("linear", rows, hidden, projection, itemsize),
            op_cost("lstm", steps=rows, in_features=projection, hidden=lstm, itemsize=itemsize),
            _with_bias("linear", batch, 2 * lstm, num_labels, itemsize),
        ]
    total = Cost.total(steps)
    return total if accounting == "engine" else Cost(0, 0, total.params)


def _with_bias(op: str, tokens: int, in_features: int, out_features: int, itemsize: int) -> Cost:
    """A linear layer of the task's own: unlike frozen ones its weight and bias are new."""
    cost = op_cost(
        op, tokens=tokens, in_features=in_features, out_features=out_features, itemsize=itemsize
    )
    params = in_features * out_features + out_features
    return Cost(cost.flops, cost.bytes + itemsize * out_features, params)


@dataclass(frozen=True)
class FrozenCost:
    """The frozen encoder's work for a set of policies.

    Args:
        total: All of it.
        hidden_ready: FLOPs spent when x^p_j is there, for j that somebody reads.
        qkv_ready: FLOPs spent when the frozen input of layer j is there, QKV^p_j or (dense tasks)
            x^p_{j-1}, for j that somebody reads.
    """

    total: Cost
    hidden_ready: Mapping[int, int]
    qkv_ready: Mapping[int, int]


def frozen_cost(
    shape: EncoderShape,
    seq_len: int,
    policies: Sequence[Policy],
    accounting: Accounting = "engine",
    batch: int = 1,
    itemsize: int = 4,
    dense: Sequence[bool] = (),
) -> FrozenCost:
    """The overhead of a set of tasks: frozen layers run once, only as far as they are read.

    `paper`: as many full layers as the deepest x^p needs; Q, K, V above them are not counted.
    `engine`: also what is read of QKV^p_m above them (one row of Q if no reader is p-all, none if
    all are s-cls), and the last frozen layer on its [CLS] row alone if nothing else of it is read.

    Args:
        dense: Which policies' layers have whole matrices (LeTS-(c)): they read x^p, never QKV^p.
    """
    hidden = frozenset[int]().union(*(policy.frozen_hidden for policy in policies))
    reads = frozenset[int]().union(*(policy.frozen_qkv for policy in policies))
    sparse = [p for p, own in zip(policies, dense, strict=True) if not own] if dense else policies
    qkv = frozenset[int]().union(*(policy.frozen_qkv for policy in sparse))
    layer = dense_layer_cost(shape, seq_len, batch, itemsize)
    top = max(hidden, default=-1)
    full = {j: layer.flops * (j + 1) for j in hidden}
    if accounting == "paper":
        total = Cost.total([layer] * (top + 1))
        return FrozenCost(total, full, {j: layer.flops * j for j in reads})

    def products(j: int) -> Cost:
        one_row = (cls_only and j == depth) or _read_by(sparse, j, LayerCase.P_CLS)
        rows = batch * seq_len if _read_by(sparse, j, LayerCase.P_ALL) else batch * one_row
        sizes = {"in_features": shape.hidden_size, "itemsize": itemsize}
        query = op_cost("linear", tokens=rows, out_features=shape.hidden_size, **sizes)
        both = op_cost(
            "linear", tokens=batch * seq_len, out_features=2 * shape.hidden_size, **sizes
        )
        return query + both if rows else both

    cls_only = top >= 0 and top + 1 not in reads
    depth = top if cls_only else top + 1
    total = Cost.total([layer] * depth)
    made = _qkv_flops(shape, seq_len, batch)
    qkv_ready = {j: layer.flops * j + (made if j in qkv else 0) for j in reads}
    if depth in qkv:
        total = total + products(depth)
        qkv_ready[depth] = total.flops
    if cls_only:
        total = total + _cls_row(shape, seq_len, batch, itemsize, cached=top in qkv)
        full[top] = total.flops
    return FrozenCost(total, full, qkv_ready)


def _read_by(policies: Collection[Policy], layer: int, case: LayerCase) -> bool:
    """Is the layer of this case to some task? `p-all` reads every row of Q, `p-cls` one, `s-cls`
    none."""
    return any(policy.cases[layer] is case for policy in policies)


def _qkv_flops(shape: EncoderShape, seq_len: int, batch: int) -> int:
    return 6 * batch * seq_len * shape.hidden_size * shape.hidden_size


def _cls_row(shape: EncoderShape, seq_len: int, batch: int, itemsize: int, cached: bool) -> Cost:
    """The frozen layer as a [CLS]-only one without deltas, on cached Q, K, V if they are there."""
    case = LayerCase.P_CLS if cached else LayerCase.F_CLS
    cost = layer_cost(shape, case, seq_len, LayerNnz(), "engine", batch, itemsize)
    return Cost(cost.flops, cost.bytes)
