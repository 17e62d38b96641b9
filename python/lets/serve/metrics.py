"""What Prometheus reads at /metrics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lets.serve.costs import Flops

_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = functools.partial(Counter, registry=self.registry)
        gauge = functools.partial(Gauge, registry=self.registry)
        histogram = functools.partial(Histogram, registry=self.registry)
        seconds = functools.partial(histogram, buckets=_SECONDS)
        by_route, by_task = ("route",), ("task",)

        self._requests = counter("lets_requests", "Requests by status.", ("route", "status"))
        self._refused = counter("lets_requests_refused", "Refusals by reason.", ("reason",))
        self._seconds = seconds("lets_request_seconds", "From headers to answer.", by_route)
        self._answers = counter("lets_answers", "Texts answered by task.", by_task)
        self._task_seconds = seconds("lets_task_seconds", "From queue to answer.", by_task)
        self._queue_seconds = seconds("lets_queue_seconds", "How long requests waited.")
        self._engine_seconds = seconds("lets_engine_seconds", "Calls of the engine.")
        self._rows = histogram("lets_batch_rows", "Texts of a call.", buckets=_ROWS)
        self._tokens = histogram("lets_batch_tokens", "Padded tokens of one.", buckets=_TOKENS)
        self._padding = counter("lets_padding_tokens", "Tokens that were padding.")
        self._flops = counter(
            "lets_flops", "Operations: of the pass that tasks share, and their own.", ("part",)
        )
        self._dense = counter("lets_dense_flops", "The same calls on one dense model a task.")
        self._changes = counter("lets_task_changes", "Tasks added, removed, …", ("change",))
        self.queue = gauge("lets_queue_texts", "Texts that wait for the engine.")
        self.in_flight = gauge("lets_requests_in_flight", "Requests not answered yet.")
        self.tasks = gauge("lets_tasks", "Loaded tasks.")

    def request(self, route: str, status: int, seconds: float, reason: str | None) -> None:
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)
        if reason:
            self._refused.labels(reason).inc()

    def batch(self, rows: int, length: int, real_tokens: int, seconds: float) -> None:
        self._rows.observe(rows)
        self._tokens.observe(rows * length)
        self._padding.inc(rows * length - real_tokens)
        self._engine_seconds.observe(seconds)

    def flops(self, one: Flops, rows: int) -> None:
        """A call's operations, from those of one of its rows."""
        self._flops.labels("shared").inc(rows * one.shared)
        self._flops.labels("own").inc(rows * one.own)
        self._dense.inc(rows * one.dense)

    def answer(self, tasks: Sequence[str], seconds: float) -> None:
        for task in tasks:
            self._answers.labels(task).inc()
            self._task_seconds.labels(task).observe(seconds)

    def waited(self, seconds: float) -> None:
        self._queue_seconds.observe(seconds)

    def task_change(self, change: str) -> None:
        self._changes.labels(change).inc()

    def watch(self, queue: Callable[[], float], tasks: Callable[[], float]) -> None:
        """Read these when somebody asks."""
        self.queue.set_function(queue)
        self.tasks.set_function(tasks)

    def text(self) -> bytes:
        return generate_latest(self.registry)
