"""TaskModel: one task on the frozen encoder, for training and for answering."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lets.encoder import ActivationCache, Encoder, FrozenNeeds
from lets.layers import cached_cls_layer, cls_layer, full_layer, project_qkv
from lets.policy import LayerCase, Policy
from lets.task_layer import TaskLayer
from lets.tokens import TokenBatch
from lets_ext import DeltaLayout

_CLS_CASES = (LayerCase.P_CLS, LayerCase.F_CLS)

Masks = Mapping[int, Mapping[str, DeltaLayout | Tensor]]


class TaskModel(nn.Module):
    """The live layers of a policy, and the head. Frozen weights are no parameters of it.

    Args:
        masks: By live layer and matrix; a missing matrix has an empty mask.
        head: From pooled [CLS] rows [B, L, H] to logits.
    """

    def __init__(self, encoder: Encoder, policy: Policy, masks: Masks, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.policy = policy.check_num_layers(encoder.shape.num_layers, encoder.source)
        self.needs = FrozenNeeds.of(policy)
        self.layers = nn.ModuleDict(
            {
                str(j): TaskLayer(
                    encoder.layer(j), masks.get(j, {}), cls_only=policy.cases[j] in _CLS_CASES
                )
                for j in policy.live_layers
            }
        )
        self.head = head

    def task_layer(self, index: int) -> TaskLayer:
        layer = self.layers[str(index)]
        assert isinstance(layer, TaskLayer)
        return layer

    def forward(self, inputs: TokenBatch | ActivationCache) -> Tensor:
        """Logits [B, C] of a batch, or of the frozen activations if they are there already."""
        if isinstance(inputs, TokenBatch):
            inputs = self.encoder.forward(inputs, self.needs)
        return self.head(self.pooled(inputs))

    def pooled(self, cache: ActivationCache) -> Tensor:
        """[CLS] rows, bottom layer first, of x^p_j or x^f_j as the policy says. [B, L, H]"""
        rows: list[Tensor] = []
        x: Tensor | None = None
        for j, case in enumerate(self.policy.cases):
            row = None
            if case in _CLS_CASES:
                row = self._cls_row(j, case, x, cache)
            elif case is not LayerCase.BYPASS:
                x = self._all_rows(j, case, x, cache)
                row = x[:, :, 0]
            if self.policy.pool[j] == "p" or row is None:
                rows.append(cache.pooled(j))
            else:
                rows.append(row[0])
        return torch.stack(rows, dim=1)

    def _all_rows(
        self, j: int, case: LayerCase, x: Tensor | None, cache: ActivationCache
    ) -> Tensor:
        layer = self.task_layer(j)
        if case is LayerCase.P_ALL:
            x, qkv = cache.hidden[j - 1][None], cache.qkv[j][None]
        else:
            assert x is not None
            qkv = project_qkv(x, layer.frozen)
        return full_layer(qkv, x, cache.key_mask, layer.frozen, layer.own())

    def _cls_row(self, j: int, case: LayerCase, x: Tensor | None, cache: ActivationCache) -> Tensor:
        layer = self.task_layer(j)
        if case is LayerCase.F_CLS:
            assert x is not None
            return cls_layer(x, cache.key_mask, layer.frozen, layer.own())
        products = (product[None] for product in cache.cls_products(j))
        hidden = cache.hidden[j - 1][None]
        return cached_cls_layer(*products, hidden, cache.key_mask, layer.frozen, layer.own())
