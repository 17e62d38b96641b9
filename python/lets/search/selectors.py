"""The selectors of the super network: one Gumbel-softmax over {p, f} each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lets.policy import group_starts

INPUT, POOL = 0, 1


class Selectors(nn.Module):
    """Alphas of both selectors of every layer; they start at 0.

    Args:
        num_layers: L.
        groups: LeTS-G-g; the first layer of each group reads p. None: only layer 0 does, its two
            sources are the same tensor.
        pool: "search", or "f": every layer pools its own row and only the inputs are searched.
    """

    fixed: Tensor
    fixed_value: Tensor

    def __init__(self, num_layers: int, groups: int | None = None, pool: str = "search") -> None:
        super().__init__()
        self.alphas = nn.Parameter(torch.zeros(2, num_layers, 2))  # [input|pool, L, p|f]
        fixed = torch.zeros(2, num_layers, dtype=torch.bool)
        fixed[INPUT, 0] = True
        if groups is not None:
            fixed[INPUT, sorted(group_starts(num_layers, groups))] = True
        fixed_value = torch.zeros(2, num_layers)
        if pool == "f":
            fixed[POOL], fixed_value[POOL] = True, 1.0
        self.register_buffer("fixed", fixed)
        self.register_buffer("fixed_value", fixed_value)

    def forward(self, noise: Tensor | None, temperature: float) -> tuple[Tensor, Tensor]:
        """P(choice = f) of the input and of the pool selectors, under one noise sample.

        Args:
            noise: Gumbel(0, 1) draws, or None for none. [2, L, 2]

        Returns:
            p_input [L], p_pool [L]; exactly 0 or 1 where the choice is fixed.
        """
        logits = self.alphas if noise is None else self.alphas + noise
        chosen = torch.softmax(logits / temperature, -1)[..., 1]
        chosen = torch.where(self.fixed, self.fixed_value, chosen)
        return chosen[INPUT], chosen[POOL]


def gumbel_noise(num_layers: int, generator: torch.Generator) -> Tensor:
    """Gumbel(0, 1) draws for all selectors. [2, L, 2]"""
    uniform = torch.rand(2, num_layers, 2, generator=generator, dtype=torch.float64)
    tiny = torch.finfo(torch.float32).tiny
    return -torch.log(-torch.log(uniform.clamp(tiny, 1 - 1e-12))).float()


def temperature_at(epochs_done: float, start: float, decay: float, interval: float) -> float:
    """Temperature after so many epochs: multiplied by exp(-decay) after every interval."""
    return start * float(torch.exp(torch.tensor(-decay * int(epochs_done / interval + 1e-9))))
