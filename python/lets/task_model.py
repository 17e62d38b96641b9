"""TaskModel: one task on the frozen encoder, differentiable; what training trains."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lets.encoder import ActivationCache, Encoder, FrozenNeeds
from lets.layers import (
    FrozenLayer,
    OwnLayer,
    cached_cls_layer,
    cls_layer,
    full_layer,
    project_qkv,
    project_query,
    trained_cls_layer,
)
from lets.policy import LayerCase, Policy
from lets.task_layer import DenseTaskLayer, TaskLayer
from lets.tokens import TokenBatch
from lets_ext import DeltaLayout

_CLS_CASES = (LayerCase.P_CLS, LayerCase.F_CLS, LayerCase.S_CLS)

Masks = Mapping[int, Mapping[str, DeltaLayout | Tensor]]


class TaskModel(nn.Module):
    """The live layers of a policy, and the head. Frozen weights are no parameters of it.

    Args:
        masks: By live layer and matrix; a missing matrix has an empty mask. None: the live layers
            have matrices of their own (LeTS-(c)), nothing of the frozen products is reused.
        head: From pooled [CLS] rows [B, L, H] to logits.
    """

    def __init__(
        self, encoder: Encoder, policy: Policy, masks: Masks | None, head: nn.Module
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.policy = policy.check_num_layers(encoder.shape.num_layers, encoder.source)
        self.dense = masks is None
        self.needs = FrozenNeeds.of(policy, dense=self.dense)
        self.layers = nn.ModuleDict()
        for j in policy.live_layers:
            cls_only = policy.cases[j] in _CLS_CASES
            self.layers[str(j)] = (
                DenseTaskLayer(encoder.layer(j))
                if masks is None
                else TaskLayer(encoder.layer(j), masks.get(j, {}), cls_only)
            )
        self.head = head

    def task_layer(self, index: int) -> TaskLayer:
        layer = self.layers[str(index)]
        assert isinstance(layer, TaskLayer)
        return layer

    def dense_layer(self, index: int) -> DenseTaskLayer:
        layer = self.layers[str(index)]
        assert isinstance(layer, DenseTaskLayer)
        return layer

    def forward(self, inputs: TokenBatch | ActivationCache) -> Tensor:
        """Logits [B, C] of a batch, or of the frozen activations if they are there already."""
        if isinstance(inputs, TokenBatch):
            inputs = self.encoder.forward(inputs, self.needs)
        return self.head(self.pooled(inputs))

    def pooled(self, cache: ActivationCache) -> Tensor:
        """[CLS] rows, bottom layer first, of x^p_j or x^f_j as the policy says. [B, L, H]"""
        rows: list[Tensor] = []
        x: Tensor | None = None  # x^f of the layer below, where this layer reads it. [1, B, S, H]
        row: Tensor | None = None  # its [CLS] row, where that alone is read. [1, B, H]
        for j, case in enumerate(self.policy.cases):
            if case is LayerCase.BYPASS:
                rows.append(cache.pooled(j))
                continue
            layer, own = self.parts(j)
            frozen_input = self.policy.input[j] != "f"
            if frozen_input:
                x = cache.hidden[j - 1][None]
            assert x is not None  # a live layer with input f has a live layer below it
            below = row if case is LayerCase.S_CLS else None
            if case in _CLS_CASES and self.dense:
                row = trained_cls_layer(x, cache.key_mask, layer, own, below)
            elif below is not None:
                key, value = (t[None] for t in cache.keys_and_values(j))
                query = project_query(below, layer)
                row = cached_cls_layer(query, key, value, x, cache.key_mask, layer, own, below)
            elif case is LayerCase.P_CLS:
                query, key, value = (t[None] for t in cache.cls_products(j))
                row = cached_cls_layer(query, key, value, x, cache.key_mask, layer, own)
            elif case is LayerCase.F_CLS:
                row = cls_layer(x, cache.key_mask, layer, own)
            else:
                cached = frozen_input and not self.dense
                qkv = cache.qkv[j][None] if cached else project_qkv(x, layer)
                x = full_layer(qkv, x, cache.key_mask, layer, own)
                row = x[:, :, 0]
            rows.append(row[0] if self.policy.pool[j] == "f" else cache.pooled(j))
        return torch.stack(rows, dim=1)

    def parts(self, index: int) -> tuple[FrozenLayer, OwnLayer]:
        """The weights that a live layer runs on, and what the task owns beside them.

        Differentiable in the parameters.
        """
        if self.dense:
            merged = self.dense_layer(index).merged()
            return merged, merged.own()
        return self.encoder.layer(index), self.task_layer(index).own()
