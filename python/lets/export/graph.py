"""An encoder and fixed tasks as one traceable module of plain torch operations.

What an engine shares is shared: the frozen layers run once, bypassed layers not at all, and layers
that only the pooling reads on their [CLS] row alone. Sparse deltas are merged: a runtime without
sparse products would gain nothing from them, so a live layer is as large as a dense one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lets.dense import dense_tail, merged_layers
from lets.encoder import Encoder
from lets.frozen import FrozenNeeds
from lets.policy import LayerCase, Policy
from lets.task import Task
from lets.weights import LayerWeights


class TasksGraph(nn.Module):
    """Token ids → the logits of every task, in their order."""

    def __init__(self, encoder: Encoder, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.embed, self.has_types = encoder.embed_ids, encoder.type_vocab_size > 0
        self.sizes = encoder.shape.num_heads, encoder.eps
        self.position_bias = encoder.position_bias
        self.policies = [task.policy for task in tasks]
        needs = FrozenNeeds.union(self.policies)
        self.whole = needs.hidden  # layers of which all rows are read; -1: embeddings
        self.top = max(needs.hidden | needs.pooled, default=-1)
        self.frozen = [_Layer(encoder.layers[j].plain()) for j in range(self.top + 1)]
        self.own, self.heads = [], nn.ModuleList()
        for task in tasks:
            model = task.to_model(encoder)
            layers = merged_layers(model)
            self.own.append({j: _Layer(layers[j]) for j in task.policy.live_layers})
            self.heads.append(model.head)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Ids int64 [B, S], right-padded → [B, C] for each task."""
        length = input_ids.shape[1]
        bias = torch.where(attention_mask.bool(), 0.0, -torch.inf)[:, None, None]
        if self.position_bias is not None:
            bias = bias + self.position_bias[:, :length, :length]
        x = self.embed(input_ids, token_type_ids)
        hidden, rows = {-1: x}, {}
        for j, layer in enumerate(self.frozen):
            if j == self.top and j not in self.whole:
                rows[j] = layer.cls_row(x, bias, *self.sizes)
                break
            x = hidden[j] = layer(x, bias, *self.sizes)
            rows[j] = x[:, 0]
        return tuple(
            head(torch.stack(self._pooled(policy, own, hidden, rows, bias), dim=1))
            for policy, own, head in zip(self.policies, self.own, self.heads)
        )

    def _pooled(
        self,
        policy: Policy,
        own: dict[int, _Layer],
        hidden: dict[int, Tensor],
        rows: dict[int, Tensor],
        bias: Tensor,
    ) -> list[Tensor]:
        """The [CLS] rows that a task's head reads, bottom layer first. L x [B, H]"""
        pooled, x = [], hidden[-1]
        own_row = x[:, 0]
        for j, case in enumerate(policy.cases):
            row = None
            if case is not LayerCase.BYPASS:
                x = x if policy.input[j] == "f" else hidden[j - 1]
                if policy.feeds[j]:
                    x = own[j](x, bias, *self.sizes)
                    own_row = x[:, 0]
                else:
                    below = own_row if case is LayerCase.S_CLS else x[:, 0]
                    own_row = own[j].cls_row(x, bias, *self.sizes, below)
                row = own_row
            if policy.pool[j] == "p":
                row = rows[j]
            assert row is not None
            pooled.append(row)
        return pooled


class _Layer(nn.Module):
    """One post-LN layer on merged weights."""

    def __init__(self, weights: LayerWeights) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, x: Tensor, bias: Tensor, num_heads: int, eps: float) -> Tensor:
        """All rows. x [B, S, H], bias [B, 1|A, 1|S, S] -> [B, S, H]"""
        batch, length, hidden = x.shape
        qkv = F.linear(x, self.weights.qkv_weight, self.weights.qkv_bias)
        q, k, v = qkv.view(batch, length, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT * (hidden // num_heads) ** -0.5 + bias
        ctx = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, hidden)
        return dense_tail(self.weights, ctx, x, eps)

    def cls_row(
        self, x: Tensor, bias: Tensor, num_heads: int, eps: float, row: Tensor | None = None
    ) -> Tensor:
        """Row 0 alone, without keys or values (as `cls_attention` does it). [B, S, H] -> [B, H]

        Args:
            row: Attends in place of row 0 of x. [B, H]
        """
        batch, _, hidden = x.shape
        size = hidden // num_heads
        wq, wk, wv = self.weights.qkv_weight.split(hidden)
        bq, _, bv = self.weights.qkv_bias.split(hidden)
        row = x[:, 0] if row is None else row
        q = F.linear(row, wq, bq).view(batch, num_heads, 1, size)
        z = q @ wk.view(num_heads, size, hidden)  # [B, A, 1, H]
        scores = (z[:, :, 0] @ x.mT) * size**-0.5 + bias[:, :, 0]
        mixed = (scores.softmax(-1) @ x)[:, :, None]  # [B, A, 1, H]
        ctx = (mixed @ wv.view(num_heads, size, hidden).mT).reshape(batch, hidden) + bv
        return dense_tail(self.weights, ctx, row, eps)
