"""PEFT LoRA: one encoder in memory, a low-rank adapter per task, a whole pass for each task."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lets.bench.baselines.base import Baseline, Dense, Inputs

RANK = 8


class LoraSwitch(Baseline):
    """The adapter of each task is switched on before its pass, unmerged as PEFT serves many."""

    def __init__(self, dense: Dense, models: int) -> None:
        super().__init__(dense, models)
        from peft import LoraConfig, get_peft_model

        # Adapters that change something, at the query and value projections (PEFT's choice for
        # BERT). The classifier is shared: 0.001% of the work.
        settings: dict[str, Any] = {
            "r": RANK, "target_modules": ["query", "value"], "init_lora_weights": False,
        }  # fmt: skip
        base: Any = copy.deepcopy(dense.model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._model: Any = get_peft_model(base, LoraConfig(**settings), adapter_name="task-0")
            for task in range(1, models):
                self._model.add_adapter(f"task-{task}", LoraConfig(**settings))
        self._model.eval().requires_grad_(False)
        self._same_numbers(models)
        merged = copy.deepcopy(self._model)
        merged.set_adapter("task-0")
        self._reference = merged.merge_and_unload()

    @classmethod
    def unavailable(cls, dense: Dense) -> str | None:
        return None if importlib.util.find_spec("peft") else "needs peft (the bench extra)"

    def _same_numbers(self, models: int) -> None:
        state = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, first in state.items():
                if ".task-0." in name:
                    for task in range(1, models):
                        state[name.replace(".task-0.", f".task-{task}.")].copy_(first)

    def prepare(self, passes: int, inputs: Inputs) -> Callable[[], Sequence[Tensor]]:
        @torch.inference_mode()
        def run() -> list[Tensor]:
            outputs = []
            for task in range(passes):
                self._model.set_adapter(f"task-{task}")
                outputs.append(self._model(**inputs).logits)
            return outputs

        return run

    @torch.inference_mode()
    def reference(self, inputs: Inputs) -> Tensor:
        return self._reference(**inputs).logits


class LoraMixed(LoraSwitch):
    """One batch with every text once per task; each row names its adapter."""

    apart = False

    def prepare(self, passes: int, inputs: Inputs) -> Callable[[], Sequence[Tensor]]:
        rows = {name: tensor.repeat(passes, 1) for name, tensor in inputs.items()}
        batch = next(iter(inputs.values())).shape[0]
        names = [f"task-{task}" for task in range(passes) for _ in range(batch)]

        @torch.inference_mode()
        def run() -> Sequence[Tensor]:
            return self._model(**rows, adapter_names=names).logits.split(batch)

        return run
