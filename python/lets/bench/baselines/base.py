"""A dense baseline: N fine-tuned models that answer one batch."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lets.tokens import TokenBatch

Inputs = dict[str, Tensor]
Forward = Callable[[Inputs], Tensor]


@dataclass(frozen=True)
class Dense:
    """The model that a baseline takes copies of.

    The copies hold equal numbers in memory of their own: what a model answers does not change how
    long it takes, where its weights lie does.

    Args:
        plain: The same model in its ordinary form, whose eager answers count.
        folder: For exported graphs.
        quantization: The engine's, for baselines that run on its products.
    """

    model: nn.Module
    plain: nn.Module
    threads: int
    folder: Path
    quantization: str | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    def bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def copies(self, count: int) -> list[nn.Module]:
        return [copy.deepcopy(self.model) for _ in range(count)]


class Baseline(ABC):
    """`models` distinct models in memory.

    Attributes:
        apart: Passes follow one another, so N tasks take N passes; otherwise all run at once.
        tolerance: Against eager torch, per (1 + |logit|); None: the precision's own.
    """

    apart = True
    tolerance: float | None = None

    def __init__(self, dense: Dense, models: int) -> None:
        self.dense, self.models = dense, models

    @classmethod
    def unavailable(cls, dense: Dense) -> str | None:
        """Why it cannot run here, or None."""
        return None

    @abstractmethod
    def prepare(self, passes: int, inputs: Inputs) -> Callable[[], Sequence[Tensor]]:
        """What is timed: `passes` models (at most `models`) on one batch, logits [B, C] of each."""

    @torch.inference_mode()
    def reference(self, inputs: Inputs) -> Tensor:
        """What each of the models must answer. [B, C]"""
        return self.dense.plain(**inputs).logits

    def close(self) -> None:
        """Let go of all models: the next baseline needs the memory."""
        vars(self).clear()


class Sequential(Baseline):
    """Models that run one after the other."""

    forwards: Sequence[Forward]

    def prepare(self, passes: int, inputs: Inputs) -> Callable[[], Sequence[Tensor]]:
        chosen = self.forwards[:passes]

        def run() -> list[Tensor]:
            return [forward(inputs) for forward in chosen]

        return run


def as_inputs(batch: TokenBatch) -> Inputs:
    """Keyword arguments of a transformers model."""
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "token_type_ids": batch.token_type_ids,
    }


def cuda_only(dense: Dense) -> str | None:
    return None if dense.device.type == "cuda" else "needs a CUDA device; not measured"
