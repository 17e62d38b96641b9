"""What FLOPs promise: N dense models against one frozen pass and N tasks."""

from __future__ import annotations

from collections.abc import Sequence

from lets.cost import dense_layer_cost, encoder_flops, op_cost
from lets.nnz import LayerNnz
from lets.policy import Policy
from lets.policy_cost import frozen_cost, task_cost
from lets.shape import EncoderShape
from lets.task import Task


def flop_ratio(
    shape: EncoderShape, tasks: Sequence[Task], batch: int, seq_len: int, cls_last: bool = False
) -> float:
    """Predicted speed-up from counted non-zeros.

    Args:
        cls_last: The dense models compute only the [CLS] row in their last layer.
    """
    policies: list[Policy] = [task.policy for task in tasks]
    ours = frozen_cost(shape, seq_len, policies, batch=batch).total.flops + sum(
        task_cost(
            shape, task.policy, seq_len, task.layer_nnz(), "engine", task.head.num_labels, batch
        ).total.flops
        for task in tasks
    )
    return len(tasks) * dense_flops(shape, batch, seq_len, cls_last) / ours


def dense_flops(shape: EncoderShape, batch: int, seq_len: int, cls_last: bool = False) -> int:
    """One dense model, its classifier left out."""
    flops = encoder_flops(shape, seq_len, batch)
    if not cls_last:
        return flops
    hidden, inner = shape.hidden_size, shape.intermediate_size
    tail = op_cost("cls_tail", rows=batch, hidden=hidden, intermediate=inner, nnz=LayerNnz().tail)
    last = (
        op_cost("linear", tokens=batch * seq_len, in_features=hidden, out_features=2 * hidden),
        op_cost("linear", tokens=batch, in_features=hidden, out_features=hidden),
        # One query on complete keys and values, as on cached ones without deltas.
        op_cost(
            "cls_attention", batch=batch, seq_len=seq_len, hidden=hidden,
            num_heads=shape.num_heads, key_nnz=0, value_nnz=0, cached=True,
        ),
        tail,
    )  # fmt: skip
    full = dense_layer_cost(shape, seq_len, batch).flops
    return flops - full + sum(cost.flops for cost in last)
