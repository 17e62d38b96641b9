"""torch.compile with frozen weights: inductor may pack them, which is its fastest form."""

from __future__ import annotations

import shutil

import torch

from lets.bench.baselines.base import Dense, Sequential
from lets.bench.baselines.eager import eager_forward


class Compiled(Sequential):
    """Compiled for each shape when the shape comes; that time is not charged."""

    def __init__(self, dense: Dense, models: int) -> None:
        super().__init__(dense, models)
        torch._inductor.config.freezing = True
        self.forwards = [
            eager_forward(torch.compile(model, dynamic=False))  # type: ignore[arg-type]
            for model in dense.copies(models)
        ]

    @classmethod
    def unavailable(cls, dense: Dense) -> str | None:
        found = any(shutil.which(name) for name in ("g++", "clang++", "c++"))
        return None if found else "needs a C++ compiler"

    def close(self) -> None:
        super().close()
        torch._inductor.config.freezing = False
        torch.compiler.reset()
