"""What a call of the engine has to compute: inputs shared by tasks, in batches of like lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lets.tokens import Encoded

Input = str | tuple[str, str]


@dataclass(frozen=True)
class Batch:
    """Inputs that the same tasks answer.

    Args:
        slots: For each row, the (task, position) pairs that its logits go to.
    """

    tasks: tuple[str, ...]
    rows: tuple[Encoded, ...]
    slots: tuple[tuple[tuple[str, int], ...], ...]


def batches(
    inputs: Mapping[str, Sequence[Input]],
    limits: Mapping[str, int],
    encode: Callable[[list[Input], int], list[Encoded]],
    batch_size: int,
) -> Iterator[Batch]:
    """Every different input once, with the tasks that want it, sorted by length.

    Tasks with different limits share an input unless one of them truncates it.

    Args:
        inputs: Per task its texts, or its pairs.
        limits: Per task the number of tokens to which its inputs are truncated.
        encode: Token ids of inputs of one kind, truncated to a number of tokens.
    """
    slots: dict[tuple[Input, int], list[tuple[str, int]]] = {}
    encoded = _encode_all(inputs, limits, encode)
    for task, items in inputs.items():
        for position, item in enumerate(items):
            # The key is the length after truncation: equal for tasks that do not truncate.
            length = len(encoded[item, limits[task]].input_ids)
            slots.setdefault((item, length), []).append((task, position))
    rows: dict[tuple[str, ...], list[tuple[int, Input]]] = {}
    for (item, length), places in slots.items():
        tasks = tuple(dict.fromkeys(task for task, _ in places))
        rows.setdefault(tasks, []).append((length, item))
    for tasks, members in rows.items():
        members.sort(key=lambda member: member[0])
        for begin in range(0, len(members), batch_size):
            chunk = members[begin : begin + batch_size]
            limit = limits[tasks[0]]
            yield Batch(
                tasks,
                tuple(encoded[item, limit] for _, item in chunk),
                tuple(tuple(slots[item, length]) for length, item in chunk),
            )


def _encode_all(
    inputs: Mapping[str, Sequence[Input]],
    limits: Mapping[str, int],
    encode: Callable[[list[Input], int], list[Encoded]],
) -> dict[tuple[Input, int], Encoded]:
    """Token ids by (input, limit); an input that fits a limit is tokenized once for all limits."""
    out: dict[tuple[Input, int], Encoded] = {}
    for limit in sorted(set(limits.values()), reverse=True):
        wanted = dict.fromkeys(
            item for task, items in inputs.items() if limits[task] == limit for item in items
        )
        known = {item: row for (item, _), row in out.items() if len(row.input_ids) <= limit}
        out |= {(item, limit): known[item] for item in wanted if item in known}
        rest = [item for item in wanted if item not in known]
        for kind in (str, tuple):
            same = [item for item in rest if isinstance(item, kind)]
            if same:
                out |= {(item, limit): row for item, row in zip(same, encode(same, limit))}
    return out
