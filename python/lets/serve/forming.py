"""Which waiting rows share the next call of the engine.

The oldest row is always in it, so nobody starves. Rows for the same tasks and of like lengths join
as long as there is room. Rows for other tasks, or of other lengths, join where the expected time of
one call, with the tasks of both and padded to the longer, is not above that of two calls.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass

from lets.serve.costs import Costs, Names
from lets.serve.job import Row

# Upper ends of the lengths that are batched without asking what padding costs.
BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass
class Call:
    """Rows of one set of tasks that are computed together."""

    tasks: Names
    rows: list[Row]

    @property
    def length(self) -> int:
        return max(row.length for row in self.rows)


def form_call(queue: Iterable[Row], costs: Costs, max_rows: int, max_tokens: int) -> Call:
    """The next call; `queue` is oldest first and not empty.

    Args:
        max_tokens: Padded; at least the longest text's.
    """
    waiting = list(queue)
    oldest = waiting[0]
    groups: dict[tuple[Names, int], list[Row]] = {}
    for row in waiting:
        if row.job.loaded is oldest.job.loaded:
            groups.setdefault((row.tasks, _bucket(row.length)), []).append(row)
    key = oldest.tasks, _bucket(oldest.length)
    call = Call(oldest.tasks, _fitting(groups.pop(key), 0, 0, max_rows, max_tokens))
    for (tasks, _), rows in groups.items():
        length = call.length
        more = _fitting(rows, len(call.rows), length, max_rows, max_tokens)
        if not more:
            continue
        joint = costs.subset(oldest.job.loaded, tuple({*call.tasks, *tasks}))
        longest = max(length, max(row.length for row in more))

        def seconds(names: Names, count: int, width: int) -> float:
            return costs.seconds(oldest.job.loaded, names, count, width)

        apart = seconds(call.tasks, len(call.rows), length) + seconds(
            tasks, len(more), max(row.length for row in more)
        )
        if seconds(joint, len(call.rows) + len(more), longest) <= apart:
            call = Call(joint, call.rows + more)
    return call


def _fitting(rows: list[Row], count: int, length: int, max_rows: int, max_tokens: int) -> list[Row]:
    """The first rows that fit into a call that has `count` rows of up to `length` tokens."""
    taken: list[Row] = []
    for row in rows:
        longer = max(length, row.length)
        if count + len(taken) >= max_rows or (count + len(taken) + 1) * longer > max_tokens:
            break
        taken.append(row)
        length = longer
    return taken


def _bucket(length: int) -> int:
    return bisect.bisect_left(BUCKETS, length)
