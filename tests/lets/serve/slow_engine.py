"""An engine that answers when it is told to."""

import contextlib
import threading

from lets.run.engine import Engine


class SlowEngine(Engine):
    """Calls wait for `go`; `started` tells that one waits.

    Attributes:
        calls: (rows, tasks) of every call.
    """

    def __init__(self, encoder, tasks):
        self.go, self.started, self.calls = threading.Event(), threading.Event(), []
        self.go.set()
        super().__init__(encoder, tasks)

    def forward(self, tokens, tasks=None, task_set=None):
        self.calls.append((len(tokens.input_ids), tuple(tasks)))
        self.started.set()
        assert self.go.wait(30)
        return super().forward(tokens, tasks, task_set)

    @contextlib.contextmanager
    def held(self):
        """Calls of this block, and what they keep waiting, go on at its end at the latest."""
        self.go.clear()
        self.started.clear()
        self.calls.clear()
        try:
            yield
        finally:
            self.go.set()
