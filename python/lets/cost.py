"""THE cost model: FLOPs, bytes and parameters of every op and layer case (METHOD section 4).

Conventions. Integers. A multiply and an add are 2 FLOPs, and only those of matrix products and
sparse sums count, as in torch.utils.flop_counter: biases, softmax, GELU and LayerNorm are 0. Bytes
are compulsory traffic: each operand and result once, values at `itemsize`, indices at 4 bytes.
Parameters are what a task adds: its non-zeros and its bias and LayerNorm vectors; frozen weights
are 0, whoever reads them. Everything is counted at the padded length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, cast, get_args

from lets.errors import LetsError
from lets.nnz import LayerNnz, layer_nnz
from lets.policy import LayerCase
from lets.shape import EncoderShape

Accounting = Literal["paper", "engine"]


@dataclass(frozen=True)
class Cost:
    """FLOPs, bytes moved, and parameters that a task adds."""

    flops: int = 0
    bytes: int = 0
    params: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes, self.params + other.params)

    @classmethod
    def total(cls, costs: Iterable[Cost]) -> Cost:
        return sum(costs, cls())


class OpCost(NamedTuple):
    """One step of a layer: an op's name and what it costs."""

    op: str
    cost: Cost


def check_accounting(name: str) -> Accounting:
    if name not in get_args(Accounting):
        raise LetsError(
            f"accounting must be one of {', '.join(get_args(Accounting))}, got {name!r}"
        )
    return cast(Accounting, name)


# --- ops; `tasks` outputs in one call, `tokens` and `rows` per task, nnz summed over the tasks ---


def _linear(tokens: int, in_features: int, out_features: int, itemsize: int = 4) -> Cost:
    numbers = tokens * (in_features + out_features) + in_features * out_features
    return Cost(2 * tokens * in_features * out_features, itemsize * numbers)


def _delta_linear(
    tokens: int,
    in_features: int,
    out_features: int,
    nnz: int,
    bias: int = 0,
    tasks: int = 1,
    shared: bool = True,
    itemsize: int = 4,
) -> Cost:
    read = tokens * (in_features + out_features) * (1 if shared else tasks)
    numbers = read + tasks * tokens * out_features + nnz + bias
    return Cost(
        2 * tokens * nnz, itemsize * numbers + _index_bytes(nnz, tasks * out_features), nnz + bias
    )


def _delta_qkv(
    tokens: int, hidden: int, nnz: int, bias: int = 0, tasks: int = 1, itemsize: int = 4
) -> Cost:
    return _delta_linear(tokens, hidden, 3 * hidden, nnz, bias, tasks, itemsize=itemsize)


def _attention(batch: int, seq_len: int, hidden: int, tasks: int = 1, itemsize: int = 4) -> Cost:
    tokens = tasks * batch * seq_len
    return Cost(4 * tokens * seq_len * hidden, itemsize * 4 * tokens * hidden)


def _cls_attention(
    batch: int,
    seq_len: int,
    hidden: int,
    num_heads: int,
    key_nnz: int,
    value_nnz: int,
    cached: bool,
    bias: int = 0,
    tasks: int = 1,
    itemsize: int = 4,
) -> Cost:
    """One query per sequence and task; K and V of a task are never formed.

    Cached products: the key side is D_Kᵀq, then a product with x over the columns that it hits; the
    value side either V = x·D_V weighted by p, or (p·x)·D_V, whichever is fewer operations. Several
    tasks take the same side, so that a call may cost more than its tasks one by one, never less.
    """
    rows = tasks * batch
    per_head = num_heads * seq_len * hidden
    if cached:
        key = 2 * batch * key_nnz + 2 * seq_len * batch * min(key_nnz, tasks * num_heads * hidden)
        value = batch * min(2 * seq_len * value_nnz, 2 * value_nnz + 2 * tasks * per_head)
        flops = 4 * rows * seq_len * hidden + key + value
        shared = 3 * batch * seq_len * hidden
    else:
        dense = 4 * hidden * hidden + 4 * per_head
        flops = rows * dense + 2 * batch * (key_nnz + value_nnz)
        shared = rows * seq_len * hidden + 2 * hidden * hidden
    numbers = shared + 2 * rows * hidden + key_nnz + value_nnz + bias
    indices = _index_bytes(key_nnz + value_nnz, 2 * tasks * hidden)
    return Cost(flops, itemsize * numbers + indices, key_nnz + value_nnz + bias)


def _cls_tail(
    rows: int, hidden: int, intermediate: int, nnz: int, tasks: int = 1, itemsize: int = 4
) -> Cost:
    weights = hidden * hidden + 2 * hidden * intermediate
    bias = tasks * tail_vectors(hidden, intermediate)
    numbers = 3 * tasks * rows * hidden + weights + nnz + bias
    indices = _index_bytes(nnz, tasks * (2 * hidden + intermediate))
    flops = 2 * tasks * rows * weights + 2 * rows * nnz
    return Cost(flops, itemsize * numbers + indices, nnz + bias)


def _add_layer_norm(tokens: int, hidden: int, vectors: int = 0, itemsize: int = 4) -> Cost:
    return Cost(0, itemsize * (3 * tokens * hidden + vectors), vectors)


def _bias_gelu(tokens: int, features: int, vectors: int = 0, itemsize: int = 4) -> Cost:
    return Cost(0, itemsize * (2 * tokens * features + vectors), vectors)


def _lstm(steps: int, in_features: int, hidden: int, itemsize: int = 4) -> Cost:
    """Both directions; gates' biases twice, as torch.nn.LSTM stores them."""
    weights = 2 * 4 * hidden * (in_features + hidden)
    params = weights + 2 * 2 * 4 * hidden
    numbers = steps * (in_features + 2 * hidden) + params
    return Cost(2 * steps * weights, itemsize * numbers, params)


def _index_bytes(nnz: int, rows: int) -> int:
    return 4 * (nnz + rows + 1) if nnz else 0


OPS: dict[str, Callable[..., Cost]] = {
    "linear": _linear,
    "attention": _attention,
    "delta_linear": _delta_linear,
    "delta_qkv": _delta_qkv,
    "cls_attention": _cls_attention,
    "cls_tail": _cls_tail,
    "add_layer_norm": _add_layer_norm,
    "bias_gelu": _bias_gelu,
    "lstm": _lstm,
}


def op_cost(op: str, **sizes: int) -> Cost:
    """The cost of one call of an op of `lets_ext` or of a dense op, by name."""
    if op not in OPS:
        raise LetsError(f"cost: op must be one of {', '.join(OPS)}, got {op!r}")
    return OPS[op](**sizes)


# --- layers ---------------------------------------------------------------------------------------


def tail_vectors(hidden: int, intermediate: int) -> int:
    """Bias and LayerNorm vectors after the attention: b_O, b_1, b_2 and two LayerNorms."""
    return 6 * hidden + intermediate


def layer_params(shape: EncoderShape, case: LayerCase, nnz: LayerNnz | None) -> int:
    """What a task stores for a layer: non-zeros, b_Q, b_V (softmax drops b_K), and the tail's."""
    if case is LayerCase.BYPASS:
        return 0
    weights = LayerNnz.full(shape) if nnz is None else nnz
    vectors = tail_vectors(shape.hidden_size, shape.intermediate_size)
    return weights.total + 2 * shape.hidden_size + vectors


def layer_ops(
    shape: EncoderShape,
    case: LayerCase,
    seq_len: int,
    nnz: LayerNnz | None,
    accounting: Accounting = "engine",
    batch: int = 1,
    itemsize: int = 4,
) -> list[OpCost]:
    """The steps of one task's layer in an accounting, in order, with their costs.

    Args:
        nnz: Of its deltas; None: the layer's matrices are the task's own, so that there is no
            delta to add, and nothing of the frozen products to reuse.
    """
    steps: list[OpCost] = []
    hidden, inner, tokens = shape.hidden_size, shape.intermediate_size, batch * seq_len

    def add(op: str, **sizes: int) -> None:
        steps.append(OpCost(op, op_cost(op, **sizes, itemsize=itemsize)))

    if case is LayerCase.BYPASS:
        return steps
    dense, nnz = nnz is None, nnz or LayerNnz()
    cached = case in (LayerCase.P_ALL, LayerCase.P_CLS, LayerCase.S_CLS) and not dense
    cls_only = case in (LayerCase.P_CLS, LayerCase.F_CLS, LayerCase.S_CLS)
    own_query = cached and case is LayerCase.S_CLS
    if accounting == "engine" and cls_only:
        if not cached or own_query:
            add("linear", tokens=batch, in_features=hidden, out_features=hidden)
        add(
            "delta_linear",
            tokens=batch, in_features=hidden, out_features=hidden, nnz=nnz.query, bias=hidden,
        )  # fmt: skip
        add(
            "cls_attention",
            batch=batch, seq_len=seq_len, hidden=hidden, num_heads=shape.num_heads,
            key_nnz=nnz.key, value_nnz=nnz.value, cached=cached, bias=hidden,
        )  # fmt: skip
        add("cls_tail", rows=batch, hidden=hidden, intermediate=inner, nnz=nnz.tail)
        return steps
    if not cached:
        add("linear", tokens=tokens, in_features=hidden, out_features=3 * hidden)
    if own_query:
        add("linear", tokens=batch, in_features=hidden, out_features=hidden)
    if cached or (accounting == "engine" and not dense):
        add("delta_qkv", tokens=tokens, hidden=hidden, nnz=nnz.qkv, bias=2 * hidden)
    add("attention", batch=batch, seq_len=seq_len, hidden=hidden)
    if cls_only:
        add("cls_tail", rows=batch, hidden=hidden, intermediate=inner, nnz=0)
        return steps
    deltas = nnz if accounting == "engine" and not dense else None
    steps += full_tail_ops(shape, tokens, deltas, itemsize=itemsize)
    return steps


def full_tail_ops(
    shape: EncoderShape, tokens: int, nnz: LayerNnz | None, tasks: int = 1, itemsize: int = 4
) -> list[OpCost]:
    """The steps after the attention over all rows of T tasks; without deltas if `nnz` is None."""
    steps: list[OpCost] = []
    hidden, inner, rows = shape.hidden_size, shape.intermediate_size, tasks * tokens

    def add(op: str, **sizes: int) -> None:
        steps.append(OpCost(op, op_cost(op, **sizes, itemsize=itemsize)))

    for matrix, (in_features, out_features) in _tail_matrices(shape).items():
        add("linear", tokens=rows, in_features=in_features, out_features=out_features)
        if nnz is not None:
            add(
                "delta_linear",
                tokens=tokens, in_features=in_features, out_features=out_features,
                nnz=getattr(nnz, matrix), tasks=tasks, shared=False,
            )  # fmt: skip
        if matrix == "up":
            add("bias_gelu", tokens=rows, features=inner, vectors=tasks * inner)
        else:
            add("add_layer_norm", tokens=rows, hidden=hidden, vectors=3 * tasks * hidden)
    return steps


def layer_cost(
    shape: EncoderShape,
    case: LayerCase,
    seq_len: int,
    nnz: LayerNnz | None,
    accounting: Accounting = "engine",
    batch: int = 1,
    itemsize: int = 4,
) -> Cost:
    """One task's layer: the sum of its steps, and all parameters that the task stores for it.

    The paper's accounting leaves out the sparse sums inside dense products, not their parameters.
    """
    steps = layer_ops(shape, case, seq_len, nnz, accounting, batch, itemsize)
    cost = Cost.total(step.cost for step in steps)
    return replace(cost, params=layer_params(shape, case, nnz))


def dense_layer_cost(shape: EncoderShape, seq_len: int, batch: int = 1, itemsize: int = 4) -> Cost:
    """A full layer of the encoder itself, which adds no parameters."""
    cost = layer_cost(shape, LayerCase.F_ALL, seq_len, LayerNnz(), "paper", batch, itemsize)
    return replace(cost, params=0)


def encoder_flops(shape: EncoderShape, seq_len: int, batch: int = 1) -> int:
    """All layers of the encoder: what "% of the encoder" means for operations."""
    return shape.num_layers * dense_layer_cost(shape, seq_len, batch).flops


def _tail_matrices(shape: EncoderShape) -> dict[str, tuple[int, int]]:
    hidden, inner = shape.hidden_size, shape.intermediate_size
    return {"out": (hidden, hidden), "up": (hidden, inner), "down": (inner, hidden)}


class LayerPrices(NamedTuple):
    """FLOPs of one layer in each live case; what the search pays (METHOD section 7)."""

    p_all: int
    p_cls: int
    f_all: int
    f_cls: int

    def expected(self, p_input: Any, live: Any, feeds: Any) -> Any:
        """Mean FLOPs; `p_input`: P(input is f), `live` and `feeds`: P(the layer is live, feeds).

        Numbers or tensors; METHOD section 4 defines the events.
        """
        cls_only = live - feeds
        from_frozen = feeds * self.p_all + cls_only * self.p_cls
        from_task = feeds * self.f_all + cls_only * self.f_cls
        return (1 - p_input) * from_frozen + p_input * from_task


def layer_prices(
    shape: EncoderShape, seq_len: int, density: float, accounting: Accounting = "engine"
) -> list[LayerPrices]:
    """Prices of every layer, bottom to top, for one sequence at the padded length.

    A policy's layer may differ by one non-zero per matrix from them (`nnz.spread` sums to k).
    """
    nnz = layer_nnz(shape, density)
    cases = (LayerCase.P_ALL, LayerCase.P_CLS, LayerCase.F_ALL, LayerCase.F_CLS)
    flops = (layer_cost(shape, case, seq_len, nnz, accounting).flops for case in cases)
    return [LayerPrices(*flops)] * shape.num_layers
