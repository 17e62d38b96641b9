"""Distillation: a task learns the logits of the model that it was converted from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lets.scores import REGRESSION


def distillation_loss(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of softened classes (Hinton et al. 2015, arXiv:1503.02531).

    Args:
        logits, teacher: [B, C]
        temperature: T; softens both.
    """
    student, target = (t.log_softmax(-1) for t in (logits / temperature, teacher / temperature))
    loss = F.kl_div(student, target, log_target=True, reduction="batchmean")
    return loss * temperature**2


def loss_towards(
    teacher: Tensor, problem_type: str, temperature: float
) -> Callable[[list[int], Tensor], Tensor]:
    """The loss of `finetune` for logits of every training row. teacher: [rows, C]"""

    def loss(rows: list[int], logits: Tensor) -> Tensor:
        wanted = teacher[torch.tensor(rows)].to(logits)
        if problem_type == REGRESSION:
            return F.mse_loss(logits, wanted)
        return distillation_loss(logits, wanted, temperature)

    return loss


def agreement(found: Tensor, wanted: Tensor, problem_type: str) -> float:
    """Share of rows with the same label; in regression, Pearson's correlation. [rows, C]"""
    if problem_type == REGRESSION:
        return float(torch.corrcoef(torch.stack([found[:, 0], wanted[:, 0]]).double())[0, 1])
    return float((found.argmax(-1) == wanted.argmax(-1)).double().mean())
