"""The stricter dense model: its last layer computes the [CLS] row alone, all that a head reads."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from lets.errors import LetsError


def check_cls_last(model: Any) -> None:
    """Raise LetsError for a model whose layers do not have BERT's modules."""
    known, found = ("bert", "electra", "roberta", "xlm-roberta"), model.config.model_type
    if found not in known:
        raise LetsError(f"bench: --cls-last is written for {', '.join(known)}, got {found}")


def with_cls_last(model: nn.Module) -> nn.Module:
    """A copy of a BERT-shaped classifier with a [CLS]-only last layer; any runtime can take it."""
    strict: Any = copy.deepcopy(model)
    layers = strict.base_model.encoder.layer
    layers[-1] = ClsLayer(layers[-1])
    return strict


class ClsLayer(nn.Module):
    """A post-LN layer of transformers for row 0: keys and values of all rows, one query."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, x: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any
    ) -> Tensor:
        """x [B, S, H], attention_mask [B, 1, S, S] or None -> [B, 1, H]"""
        attention: Any = self.layer.attention
        own, row = attention.self, x[:, :1]
        heads = (own.num_attention_heads, own.attention_head_size)
        q, k, v = (
            projection(rows).unflatten(-1, heads).transpose(1, 2)
            for projection, rows in ((own.query, row), (own.key, x), (own.value, x))
        )
        mask = None if attention_mask is None else attention_mask[:, :, :1]
        ctx = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        h = attention.output(ctx, row)
        return self.layer.output(self.layer.intermediate(h), h)
