"""Dense models in one pass: their weights stacked, every product one batched product (bmm).

Written out because torch.func.vmap has no rule for the fused attention and would loop over it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lets.bench.baselines.base import Baseline, Dense, Inputs
from lets.bench.baselines.cls_last import ClsLayer
from lets.weights import LayerWeights, read_layers


class Stacked(Baseline):
    """No pass waits for another; every model's weights are read once. T models, rows M = B · S."""

    apart = False

    def __init__(self, dense: Dense, models: int) -> None:
        super().__init__(dense, models)
        model: Any = dense.model
        bert, config = model.bert, model.config
        self._heads, self._eps = config.num_attention_heads, config.layer_norm_eps

        def stacked(tensor: Tensor) -> Tensor:
            return tensor.detach().repeat(models, *(1,) * tensor.dim())

        self._layers = [
            LayerWeights(**{f.name: stacked(getattr(layer, f.name)) for f in fields(layer)})
            for layer in read_layers(bert, "bert")
        ]
        names = ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")
        parts = {name: getattr(bert.embeddings, name) for name in names}
        parts |= {"pooler": bert.pooler.dense, "classifier": model.classifier}
        self._state = {
            f"{name}.{kind}": stacked(tensor)
            for name, part in parts.items()
            for kind, tensor in part.named_parameters()
        }

    @classmethod
    def unavailable(cls, dense: Dense) -> str | None:
        model: Any = dense.model
        if model.config.model_type != "bert":
            return f"is written for BERT, got {model.config.model_type}"
        strict = isinstance(model.bert.encoder.layer[-1], ClsLayer)
        return "has no stricter form" if strict else None

    def prepare(self, passes: int, inputs: Inputs) -> Callable[[], Sequence[Tensor]]:
        mask = inputs["attention_mask"].bool()
        padded = None if bool(mask.all()) else mask[None, :, None, None]
        layers = [
            LayerWeights(**{f.name: getattr(layer, f.name)[:passes] for f in fields(layer)})
            for layer in self._layers
        ]
        state = {name: tensor[:passes] for name, tensor in self._state.items()}

        @torch.inference_mode()
        def run() -> Sequence[Tensor]:
            x = self._embed(state, inputs)
            for layer in layers:
                x = self._layer(layer, x, padded)
            rows = x[:, :, 0]
            pooled = _linear(rows, state["pooler.weight"], state["pooler.bias"]).tanh()
            return _linear(pooled, state["classifier.weight"], state["classifier.bias"]).unbind()

        return run

    def _embed(self, state: dict[str, Tensor], inputs: Inputs) -> Tensor:
        """[T, B, S, H]"""
        ids, types = inputs["input_ids"], inputs["token_type_ids"]
        x = (
            state["word_embeddings.weight"][:, ids]
            + state["token_type_embeddings.weight"][:, types]
        )
        x = x + state["position_embeddings.weight"][:, None, : ids.shape[1]]
        return self._norm(x.flatten(1, 2), state["LayerNorm.weight"], state["LayerNorm.bias"]).view(
            x.shape
        )

    def _layer(self, w: LayerWeights, x: Tensor, mask: Tensor | None) -> Tensor:
        tasks, batch, length, hidden = x.shape
        rows = x.flatten(1, 2)
        qkv = _linear(rows, w.qkv_weight, w.qkv_bias)
        q, k, v = qkv.view(tasks * batch, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        shared = None if mask is None else mask.expand(tasks, -1, -1, -1, -1).flatten(0, 1)
        ctx = F.scaled_dot_product_attention(q, k, v, attn_mask=shared)
        ctx = ctx.transpose(1, 2).reshape(tasks, batch * length, hidden)
        h = rows + _linear(ctx, w.out_weight, w.out_bias)
        h = self._norm(h, w.attn_norm_weight, w.attn_norm_bias)
        inner = F.gelu(_linear(h, w.up_weight, w.up_bias))
        h = h + _linear(inner, w.down_weight, w.down_bias)
        return self._norm(h, w.norm_weight, w.norm_bias).view(x.shape)

    def _norm(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """x [T, M, H], weight and bias [T, H]"""
        return F.layer_norm(x, x.shape[-1:], eps=self._eps) * weight[:, None] + bias[:, None]


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [T, M, I], weight [T, O, I], bias [T, O] -> [T, M, O]"""
    return torch.baddbmm(bias[:, None], x, weight.mT)
