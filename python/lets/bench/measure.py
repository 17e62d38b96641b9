"""Interleaved timing: what is compared takes turns, so that drift of the machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MIN_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """Seconds of one call over the rounds: median and quartiles."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        if len(seconds) == 1:
            return cls(seconds[0], seconds[0], seconds[0], 1)
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, len(seconds))


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int = 15,
    *,
    warmup: int = 2,
    repeats: int = 1,
    lead: int = 0,
    seconds: float | None = None,
    synchronize: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Time all candidates; one of each in turn.

    Args:
        warmup: Rounds that do not count.
        repeats: Calls per timing, for what takes microseconds.
        lead: Calls before each timing that do not count, which find what the others left behind.
        seconds: Stop after so long, though not before three counted rounds.
        synchronize: Waits for a device.
    """
    wait = synchronize or (lambda: None)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    started = time.perf_counter()
    for turn in range(warmup + rounds):
        late = seconds is not None and time.perf_counter() - started > seconds
        if late and turn - warmup >= MIN_ROUNDS:
            break
        for name, run in candidates.items():
            for _ in range(lead):
                run()
            wait()
            begin = time.perf_counter()
            for _ in range(repeats):
                run()
            wait()
            if turn >= warmup:
                times[name].append((time.perf_counter() - begin) / repeats)
    return {name: Timing.of(found) for name, found in times.items()}
