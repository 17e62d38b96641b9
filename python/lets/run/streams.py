"""Streams: independent steps at once, on worker threads (CPU) or on CUDA streams."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from lets.plan.schedule import list_schedule
from lets.plan.timing import MachineRates, plan_seconds
from lets.run.kernels import Call
from lets.run.program import Program
from lets.tokens import TokenBatch

DEFAULT_STREAMS = 2


class ThreadedProgram:
    """A program whose ready steps run on the calling thread and on workers.

    Every thread uses as many threads inside an operation as torch is set to: with more than one,
    streams compete for the cores. Results do not depend on timing: each step's sums are its own.
    """

    def __init__(self, program: Program, streams: int, pool: ThreadPoolExecutor) -> None:
        self.program, self.streams, self._pool = program, streams, pool
        plan = program.plan
        self.needs = plan.dependencies()
        self.readers: list[list[int]] = [[] for _ in self.needs]
        for i, need in enumerate(self.needs):
            for j in need:
                self.readers[j].append(i)
        # The longest way to an answer goes first.
        self.rank = [0] * len(self.needs)
        for i in reversed(range(len(self.needs))):
            above = max((self.rank[j] for j in self.readers[i]), default=0)
            self.rank[i] = above + plan.steps[i].cost.flops + 1

    def run(self, tokens: TokenBatch) -> dict[str, Tensor]:
        """Logits of every task. [B, C]"""
        self.program.encoder.check_batch(tokens)
        run = _Run(self, Call(tokens, tokens.key_mask))
        for _ in range(self.streams - 1):
            self._pool.submit(run.work)
        run.work()
        return self.program.logits(run.finished())


class _Run:
    """One call: its values, the steps that are ready, and how many readers wait for each value."""

    def __init__(self, owner: ThreadedProgram, call: Call) -> None:
        self.owner, self.call = owner, call
        self.waiting = [len(need) for need in owner.needs]
        self.unread = [len(readers) for readers in owner.readers]
        self.values: list[Tensor | None] = [None] * len(owner.needs)
        self.ready = [(-owner.rank[i], i) for i, count in enumerate(self.waiting) if count == 0]
        heapq.heapify(self.ready)
        self.left = len(owner.needs)
        self.error: BaseException | None = None
        self.changed = threading.Condition()
        self.inference = torch.is_inference_mode_enabled()

    def work(self) -> None:
        """Take ready steps until all are done; the mode of autograd is the caller's."""
        with torch.inference_mode(self.inference):
            while (i := self._next()) is not None:
                program = self.owner.program
                try:
                    inputs = [self.values[j] for j in program.inputs[i]]
                    value = program.kernels[i](self.call, *inputs)
                except BaseException as error:  # raised again in the caller's thread
                    self._fail(error)
                    return
                del inputs
                self._done(i, value)

    def finished(self) -> Sequence[Tensor | None]:
        """The values when all steps are done."""
        with self.changed:
            self.changed.wait_for(lambda: self.left == 0 or self.error is not None)
            if self.error is not None:
                raise self.error
        return self.values

    def _next(self) -> int | None:
        with self.changed:
            self.changed.wait_for(lambda: self.ready or self.left == 0 or self.error is not None)
            if not self.ready or self.error is not None:
                return None
            return heapq.heappop(self.ready)[1]

    def _done(self, i: int, value: Tensor) -> None:
        with self.changed:
            self.values[i] = value
            self.left -= 1
            for j in self.owner.readers[i]:
                self.waiting[j] -= 1
                if self.waiting[j] == 0:
                    heapq.heappush(self.ready, (-self.owner.rank[j], j))
            for j in self.owner.needs[i]:
                self.unread[j] -= 1
                if self.unread[j] == 0:
                    self.values[j] = None
            self.changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self.changed:
            self.error = self.error or error
            self.changed.notify_all()


class CudaStreamsProgram:
    """A program on CUDA streams: a fixed list schedule, events where streams wait for each other.

    Not measured: written for a device, and run on none so far.
    """

    def __init__(self, program: Program, streams: int, rates: MachineRates) -> None:
        self.program = program
        schedule = list_schedule(program.plan, plan_seconds(program.plan, rates), streams)
        self._order = [(slot.step, slot.stream) for slot in schedule.slots]
        self._streams = [torch.cuda.Stream(program.encoder.device) for _ in range(streams)]

    def run(self, tokens: TokenBatch) -> dict[str, Tensor]:
        """Logits of every task, complete on the caller's stream. [B, C]"""
        program = self.program
        program.encoder.check_batch(tokens)
        call, caller = Call(tokens, tokens.key_mask), torch.cuda.current_stream()
        for stream in self._streams:
            stream.wait_stream(caller)
        # Values stay until the caller's stream has waited for all others, so that none is freed
        # while another stream reads it.
        values: list[Tensor | None] = [None] * len(self._order)
        done: dict[int, tuple[int, torch.cuda.Event]] = {}
        for i, number in self._order:
            stream = self._streams[number]
            with torch.cuda.stream(stream):
                for j in program.inputs[i]:
                    if done[j][0] != number:
                        stream.wait_event(done[j][1])
                values[i] = program.kernels[i](call, *[values[j] for j in program.inputs[i]])
                done[i] = number, stream.record_event()
        for stream in self._streams:
            caller.wait_stream(stream)
        for value in values:
            assert value is not None
            value.record_stream(caller)
        return program.logits(values)
