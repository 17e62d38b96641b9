"""Which threads may compute: the engine's own, and others only in passing.

OpenMP gives every thread that runs a parallel kernel workers of its own, as long as it lives. When
all of them together are more than the cores, none waits by spinning any more, and each parallel
region pays for waking a thread: 20% of an engine call on two cores.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_passing(run: Callable[[], T]) -> T:
    """Run something that computes in a thread that ends, and its workers with it."""
    with ThreadPoolExecutor(1, "lets-passing") as thread:
        return thread.submit(run).result()
