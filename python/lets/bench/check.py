"""Answers before times: the engine against a plain evaluation, baselines against eager torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lets.dense import evaluate_densely
from lets.encoder import Encoder
from lets.task import Task
from lets.tokens import TokenBatch


@dataclass(frozen=True)
class Difference:
    """The largest difference of two sets of logits, absolute and per (1 + |logit|)."""

    absolute: float = 0.0
    relative: float = 0.0

    def within(self, allowed: float) -> bool:
        return self.relative <= allowed  # False for NaN

    @classmethod
    def of(cls, found: Iterable[Tensor], expected: Iterable[Tensor]) -> Difference:
        absolute, relative = torch.zeros(()), torch.zeros(())
        for ours, theirs in zip(found, expected, strict=True):
            off = (ours.float() - theirs.float()).abs().cpu()
            absolute = torch.maximum(absolute, off.max())  # keeps NaN
            relative = torch.maximum(relative, (off / (1 + theirs.float().abs().cpu())).max())
        return cls(float(absolute), float(relative))


@torch.inference_mode()
def engine_difference(
    answers: Mapping[str, Tensor], encoder: Encoder, tasks: Sequence[Task], batch: TokenBatch
) -> Difference:
    """The engine's logits against merged weights, every layer in full and torch alone."""
    expected = (evaluate_densely(task.to_model(encoder), batch) for task in tasks)
    return Difference.of((answers[task.name] for task in tasks), expected)
