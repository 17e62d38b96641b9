"""Which waiting rows share the next call of the engine.

The rows of the same tasks are cut, by length, into the calls that take the least time together:
padding against what every call costs. The call with the oldest row is next, so nobody starves.
Calls for other tasks join it where one call, with the tasks of both and padded to the longer, is
not expected to take longer than two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from lets.serve.costs import Costs, Names
from lets.serve.job import Row

_MOST = 128  # of the oldest rows that are looked at: with all of a long queue it would take seconds


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
    waiting = list(islice(queue, _MOST))
    oldest = waiting[0]
    loaded = oldest.job.loaded
    groups: dict[Names, list[Row]] = {}
    for row in waiting:
        if row.job.loaded is loaded:
            groups.setdefault(row.tasks, []).append(row)

    def seconds(names: Names, count: int, length: int) -> float:
        return costs.seconds(loaded, names, count, length)

    def calls(tasks: Names) -> list[Call]:
        rows = sorted(groups.pop(tasks), key=lambda row: row.length)
        lengths = [row.length for row in rows]
        fixed = seconds(tasks, 0, 1)
        each = [seconds(tasks, 1, length) - fixed for length in lengths]
        cuts = cheapest_cuts(lengths, fixed, each, max_rows, max_tokens)
        return [Call(tasks, rows[begin:end]) for begin, end in cuts]

    call = next(call for call in calls(oldest.tasks) if oldest in call.rows)
    for tasks in list(groups):
        for other in calls(tasks):
            joint = Call(costs.subset(loaded, (*call.tasks, *tasks)), call.rows + other.rows)
            count, length = len(joint.rows), joint.length
            if count > max_rows or count * length > max_tokens:
                continue
            apart = sum(seconds(c.tasks, len(c.rows), c.length) for c in (call, other))
            if seconds(joint.tasks, count, length) <= apart:
                call = joint
    return call


def cheapest_cuts(
    lengths: Sequence[int], fixed: float, each: Sequence[float], max_rows: int, max_tokens: int
) -> list[tuple[int, int]]:
    """Where to cut rows of increasing lengths, so that the parts take the least time.

    Args:
        fixed: Seconds of a call beside those of its rows.
        each: Seconds of a row of such a length.

    Returns:
        Begin and end of each part; where times are equal, the fewest parts.
    """
    best, begins = [0.0], [0]  # of the first n rows: their time, and where the last part begins
    for end, length in enumerate(lengths, 1):
        first = max(0, end - min(max_rows, max(1, max_tokens // length)))
        row = each[end - 1]
        times = [best[begin] + fixed + (end - begin) * row for begin in range(first, end)]
        best.append(min(times))
        begins.append(first + times.index(best[end]))
    cuts, end = [], len(lengths)
    while end:
        cuts.append((begins[end], end))
        end = begins[end]
    return cuts[::-1]
