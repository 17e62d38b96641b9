"""Job and Row: what one request asks the engine for, and its pieces that batches are made of."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import torch

from lets.run.output import TaskOutput
from lets.run.task_set import TaskSet
from lets.serve.costs import Names
from lets.tokens import Encoded


@dataclass(eq=False)
class Row:
    """One text of a request, for tasks that read the same tokens of it.

    Args:
        tasks: What is computed; `slots` may name fewer.
        slots: (task, position) pairs that the logits go to.
    """

    job: Job
    tokens: Encoded
    tasks: Names
    slots: tuple[tuple[str, int], ...]

    @property
    def length(self) -> int:
        return len(self.tokens.input_ids)


@dataclass(eq=False)
class Job:
    """A request's texts on their way through the engine.

    Args:
        loaded: The tasks when the request came; later changes do not touch it.
        counts: Texts of each task.
    """

    loaded: TaskSet
    counts: dict[str, int]
    rows: list[Row] = field(default_factory=list)
    arrived: float = field(default_factory=time.perf_counter)
    queue_seconds: float = 0.0  # until its first row ran
    engine_seconds: float = 0.0  # of the calls that its rows were part of
    batch_rows: int = 0  # of the largest of these calls

    def __post_init__(self) -> None:
        self.logits: dict[str, list[list[float]]] = {
            name: [[]] * count for name, count in self.counts.items()
        }
        self.waiting = 0
        self.done: asyncio.Future[None] | None = None

    @property
    def tokens(self) -> int:
        return sum(row.length for row in self.rows)

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.done is None or self.done.done()

    def take(self, row: Row, logits: dict[str, list[float]]) -> None:
        """A row's logits; the last one completes the job."""
        for task, position in row.slots:
            self.logits[task][position] = logits[task]
        self.waiting -= 1
        if self.waiting == 0 and not self.gone:
            assert self.done is not None
            self.done.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.gone:
            assert self.done is not None
            self.done.set_exception(error)

    def outputs(self) -> dict[str, TaskOutput]:
        """The answers, as an engine gives them."""
        return {
            name: TaskOutput(self.loaded.tasks[name], torch.tensor(rows))
            for name, rows in self.logits.items()
        }
