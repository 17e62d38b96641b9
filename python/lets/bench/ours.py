"""The LeTS side of a benchmark: tasks, the engine that answers them, and whether it is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from lets.bench.check import Difference, engine_difference
from lets.bench.policies import task_policies
from lets.bench.problem import bench_encoder, load_packs, random_batch, random_task
from lets.bench.settings import BenchSettings
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.run.engine import Engine
from lets.run.modes import check_mode
from lets.task import Task
from lets.tokens import TokenBatch

PACKS = "packs"  # in place of a policy's name


class Ours:
    """Engines by policy and number of tasks, the last one kept; checks are made once."""

    def __init__(self, settings: BenchSettings) -> None:
        self.settings = settings
        if settings.mode is not None:
            check_mode(settings.mode)
        self.encoder: Encoder = bench_encoder(
            settings.encoder, settings.seed, settings.torch_dtype, settings.device
        )
        for length in settings.seq_len:
            if length > self.encoder.max_length:
                raise LetsError(
                    f"bench: seq-len must be at most {self.encoder.max_length} for "
                    f"{settings.encoder}, got {length}"
                )
        self.policies = (PACKS,) if settings.packs else settings.policies
        self._packs = load_packs(list(settings.packs), self.encoder) if settings.packs else []
        for policy in self.policies:
            self._check_policy(policy)
        self._tasks: dict[str, list[Task]] = {}
        self._engine: tuple[tuple[str, int], Engine] | None = None
        self._checked: dict[tuple[str, int, int, int], Difference] = {}

    def tasks(self, policy: str, count: int) -> list[Task]:
        """The first `count` tasks of a policy."""
        if policy not in self._tasks:
            self._tasks[policy] = self._build(policy, max(self.settings.tasks))
        return self._tasks[policy][:count]

    def engine(self, policy: str, count: int) -> Engine:
        key = (policy, count)
        if self._engine is None or self._engine[0] != key:
            self._engine = None  # before the next one takes memory
            options: dict[str, Any] = {
                name: value
                for name in ("mode", "quantization")
                if (value := getattr(self.settings, name)) is not None
            }
            self._engine = (key, Engine(self.encoder, self.tasks(*key), **options))
        return self._engine[1]

    def mode(self, policy: str, count: int) -> str:
        """The engine's own where none was asked for."""
        return self.engine(policy, count).mode

    def call(self, policy: str, count: int, batch: TokenBatch) -> Callable[[], dict[str, Tensor]]:
        """What is timed: token ids in, every task's logits out."""
        engine = self.engine(policy, count)
        return lambda: engine.forward(batch)

    def difference(self, policy: str, count: int, batch: int, seq_len: int) -> Difference:
        """Of the engine's logits to a plain evaluation of the same packs."""
        key = (policy, count, batch, seq_len)
        if key not in self._checked:
            tokens = random_batch(self.encoder, batch, seq_len)
            answers = self.call(policy, count, tokens)()
            tasks = self.tasks(policy, count)
            self._checked[key] = engine_difference(answers, self.encoder, tasks, tokens)
        return self._checked[key]

    def _check_policy(self, policy: str) -> None:
        """Wrong policies end a run before the first model is built."""
        if policy != PACKS:
            task_policies(policy, self.encoder.shape, 1 + policy.count("+"), 0.01, 0)

    def _build(self, policy: str, count: int) -> list[Task]:
        if policy == PACKS:
            return [
                replace(self._packs[i % len(self._packs)], name=f"task-{i}") for i in range(count)
            ]
        settings, encoder = self.settings, self.encoder
        policies = task_policies(policy, encoder.shape, count, settings.density, settings.seed)
        return [
            random_task(encoder, each, settings.density, settings.seed + i, f"task-{i}")
            for i, each in enumerate(policies)
        ]
