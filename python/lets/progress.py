"""What a long run tells its user: nothing, or bars on stderr when that is a terminal."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """The silent base; a caller passes its own subclass to follow a run."""

    def start(self, stage: str, total: int, done: int = 0) -> None:
        """A stage of `total` steps begins, `done` of them in an earlier run."""

    def step(self, stage: str, step: int) -> None:
        """Step number `step` (counted from 1) begins."""

    def advance(self, stage: str, step: int, **shown: Any) -> None:
        """Step number `step` is complete."""

    def evaluated(self, stage: str, step: int, score: float, best: bool) -> None:
        """The development score after a step, and whether it is the best so far."""

    def saved(self, stage: str, step: int) -> None:
        """A checkpoint of a step was written."""

    def wishes(self) -> frozenset[str]:
        """What the follower wants after this step: `evaluate`, `save`, or `stop`, to end early."""
        return frozenset()

    def finish(self, stage: str) -> None:
        """The stage is over."""

    def note(self, text: str) -> None:
        """One line about something that happens once."""


class TerminalProgress(Progress):
    """A bar per stage on stderr; silent when stderr is not a terminal."""

    def __init__(self, enabled: bool | None = None) -> None:
        self._enabled = sys.stderr.isatty() if enabled is None else enabled
        self._bar: tqdm | None = None

    def start(self, stage: str, total: int, done: int = 0) -> None:
        self._bar = tqdm(
            total=total, initial=done, desc=stage, file=sys.stderr, disable=not self._enabled
        )

    def advance(self, stage: str, step: int, **shown: Any) -> None:
        if self._bar is not None:
            self._bar.set_postfix(
                {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in shown.items()},
                refresh=False,
            )
            self._bar.update(1)

    def finish(self, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def note(self, text: str) -> None:
        if self._enabled:
            tqdm.write(text, file=sys.stderr)
