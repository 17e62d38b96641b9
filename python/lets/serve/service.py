"""Service: what the routes call. An engine, its queue, and what is known about both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import torch

from lets.errors import LetsError
from lets.run.engine import Engine
from lets.run.output import TaskOutput
from lets.run.task_set import TaskSet
from lets.run.work import Input
from lets.serve.access_log import event
from lets.serve.batcher import Batcher
from lets.serve.costs import Costs
from lets.serve.errors import BACKEND, ApiError
from lets.serve.job import Job
from lets.serve.metrics import Metrics
from lets.serve.prepare import Preparer
from lets.serve.settings import ServeSettings
from lets.serve.threads import in_passing
from lets.tokens import TokenBatch


class Service:
    """Answers requests with one engine; belongs to one event loop, `start` to `close`.

    Attributes:
        draining: No new requests are taken.
    """

    def __init__(
        self, engine: Engine, settings: ServeSettings | None = None, costs: Costs | None = None
    ) -> None:
        self.engine, self.settings = engine, settings or ServeSettings()
        if self.settings.max_batch_tokens < engine.encoder.max_length:
            raise LetsError(
                f"serve: max_batch_tokens must hold the longest text of {engine.encoder.source} "
                f"({engine.encoder.max_length} tokens), got {self.settings.max_batch_tokens}"
            )
        self.metrics, self.draining = Metrics(), False
        self.costs = costs or in_passing(lambda: Costs(engine.encoder))
        self._preparer = Preparer(engine.encoder, self.costs, self.settings.max_client_batch_size)

    async def start(self) -> None:
        self.batcher = Batcher(self.engine, self.costs, self.settings, self.metrics)
        self.metrics.watch(lambda: self.batcher.waiting, lambda: len(self.engine.task_set.tasks))
        if self.engine.task_set.tasks:
            await self.batcher.alone(self._warm_up)
        self.batcher.start()

    async def close(self) -> None:
        await self.batcher.close()
        self._preparer.close()

    async def answer(
        self,
        loaded: TaskSet,
        texts: Sequence[Input],
        tasks: Sequence[str] | None,
        truncate: bool | None,
    ) -> tuple[Job, dict[str, TaskOutput]]:
        """The outputs of every task that was asked for.

        Args:
            loaded: The engine's tasks when the request came.
            tasks: None: all that take this kind of inputs.
            truncate: None: as the settings say.

        Raises:
            ApiError: what is wrong with the request, or that there is no room for it.
        """
        self.batcher.check_room(1)
        truncate = self.settings.auto_truncate if truncate is None else truncate
        with self.batcher.expecting():
            job = await self._preparer.job(texts, tasks, truncate, loaded)
        try:
            await self.batcher.answer(job)
        except (ApiError, asyncio.CancelledError):
            raise
        except Exception as error:  # logged where it happened
            raise ApiError(503, BACKEND, "backend", "the engine failed; try again", 1) from error
        return job, job.outputs()

    def _warm_up(self) -> None:
        """Compile the plan of all tasks and touch their weights before anybody waits for it; then
        time short and long calls, for the first guess of what others will take."""
        encoder, loaded = self.engine.encoder, self.engine.task_set
        names = tuple(loaded.tasks)
        begun = time.perf_counter()
        for turn in range(3):
            for length in (8, min(64, encoder.max_length)):
                ids = torch.zeros(1, length, dtype=torch.int64)
                tokens = TokenBatch(ids, torch.ones_like(ids), ids).to(encoder.device)
                called = time.perf_counter()
                self.engine.forward(tokens, names, loaded)
                if turn:
                    seconds = time.perf_counter() - called
                    self.costs.observe(loaded, names, 1, length, seconds)
        event("warm", tasks=len(loaded.tasks), ms=round(1e3 * (time.perf_counter() - begun), 1))
