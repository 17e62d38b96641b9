"""Hard-concrete gates on a change of weights, W^p + z ⊙ δ (Louizos 2018; Guo 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lets.train.topk import streaming_topk
from lets.weights import layer_modules

LOW, HIGH = -1.5, 1.5  # the concrete variable is stretched to here, then cut to [0, 1]
_START = 5.0  # of log α: every gate begins open


class GatedChange(nn.Module):
    """One weight's δ and its gates; afterwards δ at a fixed mask.

    Args:
        structured: Whether the whole weight has a gate too, which multiplies those of its elements.
    """

    mask: Tensor | None

    def __init__(self, weight: Tensor, structured: bool) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros_like(weight))
        self.element_gates = nn.Parameter(torch.full_like(weight, _START))
        whole = weight.new_full((), _START)
        self.whole_gates = nn.Parameter(whole) if structured else None
        self.register_buffer("mask", None)

    def forward(self, weight: Tensor) -> Tensor:
        if self.mask is not None:
            return weight + self.mask * self.change
        return weight + self.gate() * self.change

    def gate(self) -> Tensor:
        """Sampled in training, the mean otherwise. In [0, 1]"""
        z = self._concrete(self.element_gates)
        return z if self.whole_gates is None else z * self._concrete(self.whole_gates)

    def expected_open(self) -> Tensor:
        """Expected number of gates that are not 0."""
        # log(-LOW / HIGH) is 0.
        count = torch.sigmoid(self.element_gates).sum()
        return count if self.whole_gates is None else count * torch.sigmoid(self.whole_gates)

    @torch.no_grad()
    def fix(self, mask: Tensor) -> None:
        """Keep the change where the mask is set, gates included, and drop the gates."""
        self.change.mul_(self.gate() * mask)
        self.mask = mask.to(self.change)
        for gates in (self.element_gates, self.whole_gates):
            if gates is not None:
                gates.requires_grad_(False)

    def _concrete(self, log_alpha: Tensor) -> Tensor:
        if self.training:
            uniform = torch.rand_like(log_alpha).clamp(1e-6, 1 - 1e-6)
            log_alpha = log_alpha + torch.logit(uniform)
        return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


def add_gates(model: Any, structured: bool) -> None:
    """Put gates on every weight, bias and LayerNorm of the layers."""
    for layer in layer_modules(model.base_model):
        for module in list(layer.modules()):
            for name, weight in list(module.named_parameters(recurse=False)):
                gated = GatedChange(weight, structured)
                parametrize.register_parametrization(module, name, gated)


def gated_changes(model: nn.Module) -> Iterator[tuple[str, GatedChange]]:
    """All of them, by name, bottom to top."""
    for name, module in model.named_modules():
        if isinstance(module, GatedChange):
            yield name, module


@torch.no_grad()
def fix_largest(model: nn.Module, kept: int) -> None:
    """The projection onto so many non-zeros: the largest |z ⊙ δ| of the whole network stay."""
    model.eval()
    scores = ((name, (g.gate() * g.change).abs()) for name, g in gated_changes(model))
    positions = streaming_topk(scores, kept)
    for name, gated in gated_changes(model):
        mask = torch.zeros(gated.change.numel(), device=gated.change.device)
        mask[positions[name]] = 1
        gated.fix(mask.view_as(gated.change))
