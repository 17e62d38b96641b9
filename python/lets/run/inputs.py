"""Checks of what a call gives to the engine: texts, names of tasks, sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lets.errors import LetsError
from lets.run.task_set import TaskSet
from lets.task import Task
from lets.tokens import check_texts

Inputs = Sequence[str] | Sequence[tuple[str, str]]


def inputs_by_task(
    texts: Inputs | Mapping[str, Inputs], tasks: Sequence[str] | None, loaded: TaskSet
) -> dict[str, Inputs]:
    """What each wanted task is to answer. Raises LetsError for what is wrong for all of them."""
    every: Iterable[str] = texts if isinstance(texts, Mapping) else loaded.tasks
    names = list(dict.fromkeys(every if tasks is None else check_names(tasks)))
    if not names:
        raise LetsError("engine: there must be at least one task; add one with add_task")
    loaded.check_known(names)
    if not isinstance(texts, Mapping):
        check_texts(texts)
        if not len(texts):
            raise LetsError("texts must hold at least one text, got none")
        return dict.fromkeys(names, texts)
    loaded.check_known(list(texts))
    missing = [name for name in names if name not in texts]
    if missing:
        raise LetsError(f"engine: texts must hold an entry for task {missing[0]}")
    return {name: texts[name] for name in names}


def input_error(task: Task, name: str, items: Any) -> str | None:
    """Why a task cannot answer these inputs, or None."""
    try:
        pairs = check_texts(items, f"{name}: texts")
    except LetsError as error:
        return str(error)
    if not len(items):
        return f"{name}: texts must hold at least one text, got none"
    if pairs != task.is_pair:
        wants, got = ("pairs of", "single") if task.is_pair else ("single", "pairs of")
        return f"{name}: the task takes {wants} texts, got {got} texts"
    return None


def length_limits(
    tasks: Mapping[str, Task], max_length: int | None, longest: int
) -> dict[str, int]:
    """Tokens to which each task's inputs are truncated.

    Args:
        longest: The encoder's maximum.
    """
    limit = longest if max_length is None else max_length
    if not _is_int(limit) or not 3 <= limit <= longest:
        raise LetsError(
            f"engine: max_length must be an integer between 3 and {longest}, got {max_length!r}"
        )
    return {name: min(task.max_length, limit) for name, task in tasks.items()}


def check_names(tasks: Any) -> list[str]:
    if not isinstance(tasks, Iterable) or isinstance(tasks, str):
        raise LetsError(f"engine: tasks must be a list of names, got {tasks!r}")
    names = list(tasks)
    for name in names:
        if not isinstance(name, str):
            raise LetsError(f"engine: tasks must be a list of names, got {name!r} in it")
    return names


def check_count(name: str, value: int) -> int:
    if not _is_int(value) or value < 1:
        raise LetsError(f"engine: {name} must be a positive integer, got {value!r}")
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
