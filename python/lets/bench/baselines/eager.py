"""transformers as it is: eager PyTorch with SDPA, one model after the other."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lets.bench.baselines.base import Dense, Forward, Inputs, Sequential


class Eager(Sequential):
    def __init__(self, dense: Dense, models: int) -> None:
        super().__init__(dense, models)
        self.forwards = [eager_forward(model) for model in dense.copies(models)]


def eager_forward(model: nn.Module) -> Forward:
    """Logits [B, C] of a transformers classifier."""
    model = model.eval()

    def forward(inputs: Inputs) -> Tensor:
        with torch.inference_mode():
            return model(**inputs).logits

    return forward
