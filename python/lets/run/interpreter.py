"""The slow twin of `Program`: any plan, step by step, on reference ops and plain heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lets.encoder import Encoder
from lets.layers import FrozenLayer, OwnLayer
from lets.plan.step import Plan
from lets.task_model import TaskModel
from lets.tokens import TokenBatch
from lets_ext import (
    Delta,
    add_layer_norm_ref,
    bias_gelu_ref,
    cls_attention_ref,
    cls_tail_ref,
    delta_linear_ref,
    delta_qkv_ref,
)


@torch.no_grad()
def interpret(
    plan: Plan, encoder: Encoder, models: Mapping[str, TaskModel], tokens: TokenBatch
) -> dict[str, Tensor]:
    """Logits [B, C] of every task of a plan, rewritten or not.

    Args:
        models: The tasks in evaluation mode.
    """
    values: dict[str, Tensor] = {}
    for step in plan.steps:
        inputs = [values[name] for name in step.inputs]
        if step.op == "embed":
            out = encoder.embed(tokens)[None]
        elif step.op == "cls_tail_layers":
            out = torch.cat([
                _cls_tail(_context(layer, tasks, encoder, models, tokens), *pair)
                for (layer, tasks), *pair in zip(step.parts, inputs[::2], inputs[1::2])
            ])  # fmt: skip
        elif step.op == "row":
            out = inputs[0][:, :, 0]
        elif step.op == "gather":
            out = torch.cat(inputs)[list(step.picks)]
        elif step.op == "head":
            out = _heads(inputs[0], [models[name] for name in step.tasks])
        else:
            assert step.layer is not None
            context = _context(step.layer, step.tasks, encoder, models, tokens)
            out = _OPS[step.op](context, *inputs)
        values[step.output] = out
    return {task: values[a.buffer][a.row, :, : a.num_labels] for task, a in plan.answers.items()}


class _Context:
    def __init__(self, layer: FrozenLayer, own: OwnLayer, tokens: TokenBatch) -> None:
        self.layer, self.own = layer, own
        self.mask = tokens.attention_mask.bool()


def _context(
    index: int,
    tasks: Sequence[str],
    encoder: Encoder,
    models: Mapping[str, TaskModel],
    tokens: TokenBatch,
) -> _Context:
    """What the tasks own of a layer, Q, K, V both stacked and apart."""
    layer, parts = encoder.layer(index), []
    for name in tasks:
        model = models[name]
        if str(index) not in model.layers:  # bypassed: the task changes nothing
            return _Context(layer, layer.own(), tokens)
        if model.dense:  # runs alone, on weights of its own
            return _Context(*model.parts(index), tokens)
        task_layer = model.task_layer(index)
        qkv, hidden = task_layer.delta("qkv"), layer.hidden_size
        rows = [qkv.layout.rows(i * hidden, (i + 1) * hidden) for i in range(3)]
        values = qkv.values.split([part.nnz for part in rows])
        query, key, value = map(Delta, rows, values)
        query_bias, value_bias = task_layer.query_bias_delta, task_layer.value_bias_delta
        bias = torch.cat([query_bias, torch.zeros_like(query_bias), value_bias])
        own = replace(task_layer.own(), qkv=qkv, query=query, key=key, value=value)
        own = replace(own, query_bias_delta=query_bias[None], value_bias_delta=value_bias[None])
        parts.append(replace(own, qkv_bias_delta=bias[None]))
    return _Context(layer, OwnLayer.stack(parts) if parts else layer.own(), tokens)


def _project(begin: int, end: int) -> Callable[[_Context, Tensor], Tensor]:
    def project(c: _Context, x: Tensor) -> Tensor:
        weights, hidden = c.layer.weights.plain(), c.layer.hidden_size
        rows = slice(begin * hidden, end * hidden)
        return F.linear(x, weights.qkv_weight[rows], weights.qkv_bias[rows])

    return project


def _delta_qkv(c: _Context, qkv: Tensor, x: Tensor) -> Tensor:
    if c.own.qkv is None:
        return qkv
    out = delta_qkv_ref(qkv.flatten(1, 2), x.flatten(1, 2), c.own.qkv, c.own.qkv_bias_delta)
    return out.unflatten(1, x.shape[1:3])


def _delta_query(c: _Context, q: Tensor, row: Tensor) -> Tensor:
    if c.own.query is None:
        return q
    return delta_linear_ref(q, row, c.own.query, c.own.query_bias_delta)


def _attention(c: _Context, qkv: Tensor) -> Tensor:
    q, k, v = (
        part.unflatten(-1, (c.layer.num_heads, -1)).transpose(2, 3) for part in qkv.chunk(3, -1)
    )
    scores = (q @ k.mT) / q.shape[-1] ** 0.5
    bias = c.layer.score_bias(q.shape[-2])
    scores = scores if bias is None else scores + bias
    scores = scores.masked_fill(~c.mask[:, None, None], -torch.inf)
    return (scores.softmax(-1) @ v).transpose(2, 3).flatten(3)


def _cls_attention(c: _Context, q: Tensor, x: Tensor, products: Tensor | None = None) -> Tensor:
    own, weights, hidden = c.own, c.layer.weights.plain(), c.layer.hidden_size
    bias = own.value_bias_delta
    frozen: dict[str, Any]
    if products is None:
        _, key_weight, value_weight = weights.qkv_weight.split(hidden)
        frozen = {"key_weight": key_weight, "value_weight": value_weight}
        frozen_bias = weights.qkv_bias[2 * hidden :].expand(q.shape[0], hidden)
        bias = frozen_bias if bias is None else bias + frozen_bias
    else:
        key, value = products[..., -2 * hidden :].chunk(2, -1)
        frozen = {"key": key, "value": value}
    return cls_attention_ref(
        q, x, num_heads=c.layer.num_heads, key_delta=own.key, value_delta=own.value,
        value_bias=bias, key_mask=c.mask, attn_bias=c.layer.cls_score_bias(x.shape[2]), **frozen,
    )  # fmt: skip


def _full_tail(c: _Context, ctx: Tensor, x: Tensor) -> Tensor:
    weights, own, eps = c.layer.weights.plain(), c.own, c.layer.eps

    def linear(rows: Tensor, weight: Tensor, delta: Delta | None) -> Tensor:
        return rows @ weight.T if delta is None else delta_linear_ref(rows @ weight.T, rows, delta)

    out = linear(ctx.flatten(1, 2), weights.out_weight, own.out)
    norm = (own.attn_norm_weight, own.attn_norm_bias)
    h = add_layer_norm_ref(out, x.flatten(1, 2), *norm, own.out_bias, eps)
    inner = bias_gelu_ref(linear(h, weights.up_weight, own.up), own.up_bias)
    outer = linear(inner, weights.down_weight, own.down)
    out = add_layer_norm_ref(outer, h, own.norm_weight, own.norm_bias, own.down_bias, eps)
    return out.unflatten(1, x.shape[1:3])


def _cls_tail(c: _Context, ctx: Tensor, row: Tensor) -> Tensor:
    weights, own = c.layer.weights.plain(), c.own
    vectors = ("out_bias", "attn_norm_weight", "attn_norm_bias", "up_bias", "down_bias")
    return cls_tail_ref(
        ctx, row, out_weight=weights.out_weight, up_weight=weights.up_weight,
        down_weight=weights.down_weight, norm_weight=own.norm_weight, norm_bias=own.norm_bias,
        out_delta=own.out, up_delta=own.up, down_delta=own.down, eps=c.layer.eps,
        **{name: getattr(own, name) for name in vectors},
    )  # fmt: skip


def _heads(pooled: Tensor, models: list[TaskModel]) -> Tensor:
    """Logits [T, B, C], padded to the most labels."""
    rows = pooled.unflatten(0, (len(models), -1)).transpose(1, 2)
    logits = [model.head(own) for model, own in zip(models, rows)]
    widest = max(each.shape[1] for each in logits)
    return torch.stack([F.pad(each, (0, widest - each.shape[1])) for each in logits])


_OPS: dict[str, Callable[..., Tensor]] = {
    "project": _project(0, 3),
    "project_query": _project(0, 1),
    "project_key_value": _project(1, 3),
    "query": lambda c, qkv: qkv[:, :, 0, : c.layer.hidden_size],
    "delta_qkv": _delta_qkv,
    "delta_query": _delta_query,
    "attention": _attention,
    "row_attention": lambda c, qkv: _attention(c, qkv)[:, :, 0],
    "cls_attention": _cls_attention,
    "full_tail": _full_tail,
    "cls_tail": _cls_tail,
}
