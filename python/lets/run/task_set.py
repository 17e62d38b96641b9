"""TaskSet: the tasks that a call answers for, from its beginning to its end."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.heads import copy_head
from lets.run.packing import packed_for
from lets.run.stacks import Stacks
from lets.task import Task

T = TypeVar("T")
_MAX_PROGRAMS = 64
_MAX_CHOICES = 4096  # names of structures: small, but dear to find again


class TaskSet:
    """Loaded tasks with their stacked weights and their compiled programs. Never changes.

    Adding and removing tasks makes another set, so that running calls keep theirs; what no set
    holds any more is released.

    Attributes:
        tasks: By name. Their weights are views of the stacks: they live as long as the set.
    """

    def __init__(self, encoder: Encoder, tasks: Mapping[str, Task]) -> None:
        self._fill(encoder, tasks, None, ())

    def _fill(
        self,
        encoder: Encoder,
        tasks: Mapping[str, Task],
        previous: Stacks | None,
        kept: Collection[str],
    ) -> None:
        self.stacks = Stacks(encoder, tasks, previous, kept)
        self.encoder = packed_for(encoder, self.stacks.specs.values())
        self.tasks = {name: self.stacks.view(name, task) for name, task in tasks.items()}
        self._programs: OrderedDict[object, object] = OrderedDict()
        self._choices: OrderedDict[object, object] = OrderedDict()
        self._lock = threading.Lock()

    def with_tasks(self, tasks: Mapping[str, Task]) -> TaskSet:
        """This set and these tasks, which take the place of tasks of their names."""
        kept = self.tasks.keys() - tasks.keys()
        return self._successor({**self.tasks, **tasks}, kept)

    def without(self, name: str) -> TaskSet:
        rest = {n: task for n, task in self.tasks.items() if n != name}
        return self._successor(rest, rest.keys())

    def _successor(self, tasks: Mapping[str, Task], kept: Collection[str]) -> TaskSet:
        successor = object.__new__(TaskSet)
        successor._fill(self.encoder, tasks, self.stacks, kept)
        return successor

    def detached(self, name: str) -> Task:
        """A task with weights of its own, which does not keep the set alive."""
        task = self.tasks[name]
        dense = None if task.dense is None else dict(task.dense)
        return replace(task, deltas=dict(task.deltas), dense=dense, head=copy_head(task.head))

    def check_known(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.tasks:
                known = ", ".join(sorted(self.tasks)) or "none"
                raise LetsError(f"engine: no task {name!r}; loaded: {known}")

    def cached(self, key: object, make: Callable[[], T]) -> T:
        """What `make` returned for this key; the least recently used of many are forgotten."""
        return self._recent(self._programs, _MAX_PROGRAMS, key, make)

    def chosen(self, key: object, make: Callable[[], T]) -> T:
        """`cached`, for what is small: it never pushes programs out."""
        return self._recent(self._choices, _MAX_CHOICES, key, make)

    def _recent(
        self, kept: OrderedDict[object, object], most: int, key: object, make: Callable[[], T]
    ) -> T:
        with self._lock:
            if key in kept:
                kept.move_to_end(key)
                return kept[key]  # type: ignore[return-value]
        made = make()
        with self._lock:
            kept[key] = made
            while len(kept) > most:
                kept.popitem(last=False)
        return made
