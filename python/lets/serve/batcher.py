"""Batcher: a bounded queue of rows, and one thread that runs the engine on batches of them."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lets.run.engine import Engine
from lets.serve.access_log import logger
from lets.serve.costs import Costs
from lets.serve.errors import OVERLOADED, ApiError
from lets.serve.forming import Call, form_call
from lets.serve.job import Job, Row
from lets.serve.metrics import Metrics
from lets.serve.settings import ServeSettings
from lets.tokens import collate

T = TypeVar("T")


class Batcher:
    """Belongs to one event loop; call `start` in it.

    A free engine takes what waits at once, unless requests are known to be on their way: then it
    waits for them, `batch_wait_ms` at the longest.
    """

    def __init__(
        self, engine: Engine, costs: Costs, settings: ServeSettings, metrics: Metrics
    ) -> None:
        self.engine, self.costs, self.settings, self.metrics = engine, costs, settings, metrics
        self._queue: deque[Row] = deque()
        self._expected = 0
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "lets-engine")
        self._loop_task: asyncio.Task[None] | None = None
        self._row_seconds = 0.01  # a running mean, for Retry-After

    def start(self) -> None:
        self._loop_task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._loop_task is not None:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Rows in the queue."""
        return len(self._queue)

    @contextlib.contextmanager
    def expecting(self) -> Iterator[None]:
        """While a request is tokenized, whose rows will be here in a moment."""
        self._expected += 1
        try:
            yield
        finally:
            self._expected -= 1
            self._changed.set()

    def check_room(self, rows: int) -> None:
        """Raises ApiError where the queue cannot take so many more rows."""
        if len(self._queue) + rows > self.settings.max_queue:
            seconds = math.ceil(len(self._queue) * self._row_seconds)
            raise ApiError(
                429, OVERLOADED, "queue", f"{len(self._queue)} texts wait already, at most "
                f"{self.settings.max_queue} may", max(1, min(60, seconds)),
            )  # fmt: skip

    async def answer(self, job: Job) -> None:
        """Run a job's rows; when this is cancelled, those that still wait are dropped."""
        self.check_room(len(job.rows))
        job.done = asyncio.get_running_loop().create_future()
        job.waiting = len(job.rows)
        self._queue.extend(job.rows)
        self._changed.set()
        try:
            await job.done
        finally:
            job.done.cancel()  # no effect on a complete one
            if job.waiting:
                self._queue = deque(row for row in self._queue if row.job is not job)

    async def alone(self, run: Callable[[], T]) -> T:
        """Something else that needs the engine's thread, between two calls."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    async def _run(self) -> None:
        while True:
            await self._something_waits()
            call = form_call(
                self._queue, self.costs,
                self.settings.max_batch_requests, self.settings.max_batch_tokens,
            )  # fmt: skip
            taken = set(map(id, call.rows))
            self._queue = deque(row for row in self._queue if id(row) not in taken)
            try:
                await self._compute(call)
            except Exception as error:
                logger.error("engine call failed", exc_info=error)
                for row in call.rows:
                    row.job.fail(error)

    async def _something_waits(self) -> None:
        while not self._queue:
            self._changed.clear()
            await self._changed.wait()
        deadline = time.perf_counter() + 1e-3 * self.settings.batch_wait_ms
        while self._expected and len(self._queue) < self.settings.max_batch_requests:
            left = deadline - time.perf_counter()
            if left <= 0:
                break
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)
        while not self._queue:  # whoever waited may have gone meanwhile
            self._changed.clear()
            await self._changed.wait()

    async def _compute(self, call: Call) -> None:
        rows, length, begun = call.rows, call.length, time.perf_counter()
        for job in {row.job for row in rows}:
            if not job.queue_seconds:
                job.queue_seconds = begun - job.arrived
                self.metrics.waited(job.queue_seconds)
        logits = await self.alone(lambda: self._forward(call))
        seconds = time.perf_counter() - begun
        for i, row in enumerate(rows):
            job = row.job
            job.batch_rows = max(job.batch_rows, len(rows))
            self.metrics.answer([task for task, _ in row.slots], time.perf_counter() - job.arrived)
            job.take(row, {task: logits[task][i] for task, _ in row.slots})
        for job in {row.job for row in rows}:
            job.engine_seconds += seconds
        self._row_seconds += 0.1 * (seconds / len(rows) - self._row_seconds)
        self.metrics.batch(len(rows), length, sum(row.length for row in rows), seconds)
        loaded = rows[0].job.loaded
        self.metrics.flops(self.costs.flops(loaded, call.tasks, length), len(rows))
        self.costs.observe(loaded, call.tasks, len(rows), length, seconds)

    def _forward(self, call: Call) -> dict[str, list[list[float]]]:
        """In the engine's thread."""
        encoder = self.engine.encoder
        tokens = collate([row.tokens for row in call.rows], encoder.tokenizer.pad_token_id or 0)
        loaded = call.rows[0].job.loaded
        found = self.engine.forward(tokens.to(encoder.device), call.tasks, loaded)
        return {name: logits.float().tolist() for name, logits in found.items()}
