"""LoRA through `peft`: low-rank changes of the query and value projections."""

from __future__ import annotations

from lets.baselines.base import Costs, Sizes, SystemResult, SystemRun, own_pass_costs
from lets.baselines.injected import train_injected

RANK = 8
_MATRICES = ("query", "value")  # peft's choice for BERT


def lora(run: SystemRun) -> SystemResult:
    costs = lora_costs(Sizes.of(run))
    settings = {"r": RANK, "lora_alpha": 2 * RANK}
    return train_injected(run, "lora", "LoraConfig", _MATRICES, costs, **settings)


def lora_costs(sizes: Sizes) -> Costs:
    """Not merged, as several tasks are served; merged weights cost a dense pass."""
    weights = sizes.shape.num_layers * len(_MATRICES) * RANK * 2 * sizes.shape.hidden_size
    return own_pass_costs(sizes, weights, 2 * sizes.seq_len * weights)
