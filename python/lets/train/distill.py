"""Distillation: a task learns the logits of a fine-tuned model beside its labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lets.scores import REGRESSION
from lets.task_data import TaskData
from lets.tokens import Texts
from lets.train.classifier import forward_of
from lets.train.scoring import target_tensor, task_loss
from lets.weights import fingerprint, named_weights

RowLoss = Callable[[list[int], Tensor], Tensor]  # (training row numbers, logits) -> loss


@dataclass(frozen=True, eq=False)
class Teacher:
    """A fine-tuned model of the task, whose classes are in the order of the data's.

    Args:
        forward: Texts -> logits, in eval mode.
        fingerprint: Of its weights.
    """

    forward: Callable[[Texts], Tensor]
    fingerprint: str

    @classmethod
    def of(cls, model: Any, encoder: Any, max_length: int) -> Teacher:
        """A transformers classifier in eval mode; the encoder has its tokenizer."""
        weights = fingerprint(named_weights(model))
        return cls(torch.no_grad()(forward_of(model, encoder, max_length)), weights)


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
    teacher: Tensor, data: TaskData, temperature: float, weight: float = 1.0
) -> RowLoss:
    """The loss of `finetune` for the teacher's logits of every training row.

    Args:
        teacher: [rows, C]
        weight: Share of the teacher; the rest is the labels'.
    """

    def loss(rows: list[int], logits: Tensor) -> Tensor:
        wanted = teacher[torch.tensor(rows)].to(logits)
        if data.problem_type == REGRESSION:
            found = F.mse_loss(logits, wanted)
        else:
            found = distillation_loss(logits, wanted, temperature)
        if weight == 1.0:
            return found
        targets = target_tensor(data, [data.train[i] for i in rows])
        return weight * found + (1.0 - weight) * task_loss(logits, targets)

    return loss
