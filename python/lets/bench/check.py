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

# Per (1 + |logit|). Low precisions round every activation; what they lose is reported beside this.
_TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
# 8-bit integers change answers: this catches a wrong graph, the row says what was lost.
INT8_TOLERANCE = 0.25


def tolerance(dtype: torch.dtype, quantization: str | None = None) -> float:
    """How far two right evaluations may be apart, per (1 + |logit|)."""
    return _TOLERANCES[dtype] if quantization is None else INT8_TOLERANCE


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
