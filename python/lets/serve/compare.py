"""The page's question: what would these answers have cost with one dense model a task?"""

from __future__ import annotations

from typing import Any

import torch

from lets.bench.measure import interleaved
from lets.serve.errors import OVERLOADED, ApiError
from lets.serve.job import Job
from lets.serve.responses import call_cost
from lets.serve.service import Service
from lets.tokens import collate

_ROUNDS = 3


class Comparison:
    """Measured in the engine's thread, between two calls; one at a time."""

    def __init__(self, service: Service) -> None:
        self._service, self._busy = service, False

    async def measure(self, text: str, tasks: list[str] | None) -> dict[str, Any]:
        """Times of one text, after an answer has made sure that everything is compiled."""
        if self._busy:
            raise ApiError(429, OVERLOADED, "compare", "another comparison is running", 1)
        self._busy = True
        loaded = self._service.engine.task_set
        try:
            job, _ = await self._service.answer(loaded, [text], tasks, True)
            found = await self._service.batcher.alone(lambda: self._measure(job))
            return {**found, "flop_ratio": self._flop_ratio(job)}
        finally:
            self._busy = False

    @torch.inference_mode()
    def _measure(self, job: Job) -> dict[str, Any]:
        engine = self._service.engine
        encoder, tokenizer = engine.encoder, engine.encoder.tokenizer
        inputs = [
            (
                collate([row.tokens], tokenizer.pad_token_id or 0).to(encoder.device),
                tuple(dict.fromkeys(task for task, _ in row.slots)),
            )
            for row in job.rows
        ]

        def ours() -> None:
            for tokens, names in inputs:
                engine.forward(tokens, names, job.loaded)

        # The longest cut of the text: what most tasks read.
        longest = max((tokens for tokens, _ in inputs), key=lambda t: t.input_ids.shape[1])
        times = interleaved(
            {"lets": ours, "dense": lambda: encoder.forward(longest)}, _ROUNDS, warmup=1
        )
        lets, dense, count = times["lets"].median, times["dense"].median, len(job.counts)
        return {
            "tasks": count,
            "tokens": longest.input_ids.shape[1],
            "lets_ms": 1e3 * lets,
            "one_dense_ms": 1e3 * dense,
            "dense_ms": 1e3 * count * dense,
            "ratio": count * dense / lets,
        }

    def _flop_ratio(self, job: Job) -> float:
        """Operations of dense models over ours; in the event loop, as all of `Costs`."""
        cost = call_cost(job, self._service.costs)
        return cost["dense_gflop"] / (cost["shared_gflop"] + cost["own_gflop"])
