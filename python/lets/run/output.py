"""TaskOutput: one task's answers to the texts of a call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lets.errors import LetsError
from lets.scores import REGRESSION
from lets.task import Task


class TaskOutput:
    """Answers in the order of the texts, or the reason why there are none.

    Attributes:
        error: None, or what was wrong; then the other attributes raise it as LetsError.
    """

    def __init__(self, task: Task, logits: Tensor | None, error: str | None = None) -> None:
        # Not the task itself: its weights are views of the engine's, which it would keep alive.
        self.name, self._classes = task.name, task.labels
        self._regression = task.problem_type == REGRESSION
        self._logits, self.error = logits, error
        if logits is not None and not bool(torch.isfinite(logits).all()):
            row = int((~torch.isfinite(logits)).nonzero()[0, 0])
            self.error = f"{task.name}: logits must be finite, got NaN or infinity for text {row}"

    @property
    def logits(self) -> Tensor:
        """float32 [n, C]"""
        if self.error is not None:
            raise LetsError(self.error)
        assert self._logits is not None
        return self._logits

    @property
    def probabilities(self) -> Tensor:
        """Softmax over the classes, [n, C]; empty for regression."""
        if self._regression:
            return self.logits.new_empty(len(self.logits), 0)
        return self.logits.softmax(-1)

    @property
    def labels(self) -> list[str] | list[float]:
        """The likeliest class of each text, or its value in regression."""
        if self._regression:
            return self.scores.tolist()
        return [self._classes[i] for i in self.logits.argmax(-1).tolist()]

    @property
    def scores(self) -> Tensor:
        """Probability of the label, or the value in regression. [n]"""
        if self._regression:
            return self.logits[:, 0]
        return self.probabilities.amax(-1)

    def __len__(self) -> int:
        return 0 if self._logits is None else len(self._logits)

    def __repr__(self) -> str:
        shown: Any = f"error={self.error!r}" if self.error else f"labels={self.labels!r}"
        return f"TaskOutput({self.name}, {shown})"
