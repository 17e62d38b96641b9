"""TaskModel: one task on the frozen encoder, for training and for answering."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from lets.encoder import ActivationCache, Encoder, FrozenNeeds
from lets.layers import OwnLayer
from lets.policy import LayerCase, Policy
from lets.run.serial import pooled_rows
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
        frozen = [self.encoder.layer(j) for j in range(self.policy.num_layers)]
        return pooled_rows(self.policy, frozen, self.own_layers(), cache)[0]

    def own_layers(self) -> dict[int, OwnLayer]:
        """What the task owns of each live layer; differentiable in the parameters."""
        return {j: self.task_layer(j).own() for j in self.policy.live_layers}
