"""The super network: sparse task layers in every layer, and both sources mixed everywhere."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lets.encoder import ActivationCache, Encoder, FrozenNeeds
from lets.layers import cls_layer, full_layer, project_qkv
from lets.task_layer import TaskLayer
from lets.task_model import Masks


class SuperNet(nn.Module):
    """W^τ: the frozen encoder beside W^p + sparse deltas at the masks (METHOD section 7).

    Parameters are those of the task layers and the head; a dense W^δ never exists.

    Args:
        masks: Of every layer, by matrix.
    """

    def __init__(self, encoder: Encoder, masks: Masks, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        num_layers = encoder.shape.num_layers
        every = frozenset(range(num_layers))
        self.needs = FrozenNeeds(hidden=(every | {-1}) - {num_layers - 1}, pooled=every)
        self.layers = nn.ModuleDict(
            {
                str(j): TaskLayer(encoder.layer(j), masks[j], cls_only=j == num_layers - 1)
                for j in range(num_layers)
            }
        )
        self.head = head

    def task_layer(self, index: int) -> TaskLayer:
        layer = self.layers[str(index)]
        assert isinstance(layer, TaskLayer)
        return layer

    def forward(self, cache: ActivationCache, p_input: Tensor, p_pool: Tensor) -> Tensor:
        """Logits [B, C] with P(choice = f) of every selector. p_input, p_pool: [L]

        The last layer feeds no other, so that only its [CLS] row is computed.
        """
        x = cache.hidden[-1][None]
        pooled = []
        last = len(self.layers) - 1
        for j in range(last + 1):
            layer = self.task_layer(j)
            frozen, own = layer.frozen, layer.own()
            mixed = torch.lerp(cache.hidden[j - 1][None], x, p_input[j])
            if j == last:
                row = cls_layer(mixed, cache.key_mask, frozen, own)[0]
            else:
                x = full_layer(project_qkv(mixed, frozen), mixed, cache.key_mask, frozen, own)
                row = x[0, :, 0]
            pooled.append(torch.lerp(cache.pooled(j), row, p_pool[j]))
        return self.head(torch.stack(pooled, dim=1))
