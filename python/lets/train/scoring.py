"""Losses and scores of logits, the same for every kind of model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lets.scores import REGRESSION, score
from lets.task_data import TaskData, TaskRow
from lets.tokens import Texts


def target_tensor(data: TaskData, rows: Sequence[TaskRow]) -> Tensor:
    """Class indices int64 [B], or numbers float32 [B] for regression."""
    regression = data.problem_type == REGRESSION
    return torch.tensor(data.targets(rows), dtype=torch.float32 if regression else torch.int64)


def task_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy, or mean squared error when the targets are numbers.

    Args:
        logits: [B, C]; C = 1 for regression.
    """
    if targets.is_floating_point():
        return F.mse_loss(logits.squeeze(-1), targets.to(logits))
    return F.cross_entropy(logits, targets.to(logits.device))


def predictions_of(logits: Tensor, problem_type: str) -> list[float]:
    """Class indices, or numbers for regression."""
    if problem_type == REGRESSION:
        return logits.squeeze(-1).double().tolist()
    return logits.argmax(-1).tolist()


@torch.no_grad()
def logits_of(
    forward: Callable[[Texts], Tensor], data: TaskData, rows: Sequence[TaskRow], batch_size: int
) -> Tensor:
    """Logits of rows in their order; texts of similar length share a batch to save padding."""
    order = sorted(range(len(rows)), key=lambda i: _length(rows[i]))
    parts = []
    for start in range(0, len(order), batch_size):
        chunk = [rows[i] for i in order[start : start + batch_size]]
        parts.append(forward(data.texts(chunk)).float().cpu())
    logits = torch.cat(parts)
    out = torch.empty_like(logits)
    out[torch.tensor(order)] = logits
    return out


def dev_score(
    forward: Callable[[Texts], Tensor], data: TaskData, batch_size: int, metric: str | None = None
) -> float:
    """The task's score on its development rows."""
    logits = logits_of(forward, data, data.dev, batch_size)
    predicted = predictions_of(logits, data.problem_type)
    return score(metric or data.metric, data.targets(data.dev), predicted)


def token_lengths(encoder: Any, data: TaskData, max_length: int, wanted: bool) -> list[int] | None:
    """Tokens of every training row, when batches are to group rows of similar length."""
    if not wanted:
        return None
    lengths: list[int] = []
    for start in range(0, len(data.train), 256):
        batch = encoder.tokenize(data.texts(data.train[start : start + 256]), max_length)
        lengths += batch.attention_mask.sum(-1).tolist()
    return lengths


def _length(row: TaskRow) -> int:
    return len(row.text) + len(row.text_pair or "")
