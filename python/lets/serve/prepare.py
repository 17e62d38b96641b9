"""Texts of a request -> rows of token ids, in a thread and with a tokenizer of their own.

A fast tokenizer keeps the length that it truncates to as a state, so two threads may not share one.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.run.inputs import check_names, input_error, length_limits
from lets.run.task_set import TaskSet
from lets.run.work import Input, batches
from lets.serve.costs import Costs
from lets.serve.errors import EMPTY, TOKENIZER, VALIDATION, ApiError
from lets.serve.job import Job, Row
from lets.tokens import Encoded, encode


class Preparer:
    """Checks and tokenizes requests, one at a time."""

    def __init__(self, encoder: Encoder, costs: Costs, max_texts: int) -> None:
        if encoder.tokenizer is None:
            raise LetsError(f"serve: the encoder {encoder.source} has no tokenizer")
        self._tokenizer: Any = copy.deepcopy(encoder.tokenizer)
        self._longest, self._costs, self._max_texts = encoder.max_length, costs, max_texts
        self._thread = ThreadPoolExecutor(1, "lets-tokenizer")

    async def job(
        self, texts: Sequence[Input], tasks: Sequence[str] | None, truncate: bool, loaded: TaskSet
    ) -> Job:
        """The work of a request.

        Args:
            tasks: None: all that take this kind of inputs.

        Raises:
            ApiError: for inputs that the tasks cannot answer.
        """
        names = self._names(texts, tasks, loaded)
        loop = asyncio.get_running_loop()
        work = await loop.run_in_executor(
            self._thread, self._tokenize, texts, names, truncate, loaded
        )
        job = Job(loaded, dict.fromkeys(names, len(texts)))
        for tokens, slots in work:
            wanted = tuple(dict.fromkeys(task for task, _ in slots))
            job.rows.append(Row(job, tokens, self._costs.subset(loaded, wanted), slots))
        return job

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _names(
        self, texts: Sequence[Input], tasks: Sequence[str] | None, loaded: TaskSet
    ) -> list[str]:
        if not texts:
            raise ApiError(400, EMPTY, "empty", "`inputs` must hold at least one text")
        if len(texts) > self._max_texts:
            raise ApiError(
                413, VALIDATION, "batch_size",
                f"`inputs` must hold at most {self._max_texts} texts, got {len(texts)}",
            )  # fmt: skip
        if tasks is None:
            pairs = not isinstance(texts[0], str)
            names = [name for name, task in loaded.tasks.items() if task.is_pair == pairs]
            if not names:
                kind = "pairs of" if pairs else "single"
                raise ApiError(422, VALIDATION, "kind", f"no loaded task takes {kind} texts")
        else:
            names = list(dict.fromkeys(check_names(tasks)))
            if not names:
                raise ApiError(422, VALIDATION, "tasks", "`tasks` must name at least one task")
            for name in names:
                if name not in loaded.tasks:
                    known = ", ".join(sorted(loaded.tasks)) or "none"
                    raise ApiError(
                        404, VALIDATION, "unknown_task",
                        f"no task {name[:100]!r}; loaded: {known}",
                    )  # fmt: skip
        for name in names:
            error = input_error(loaded.tasks[name], name, texts)
            if error is not None:
                raise ApiError(422, VALIDATION, "inputs", error)
        return names

    def _tokenize(
        self, texts: Sequence[Input], names: Sequence[str], truncate: bool, loaded: TaskSet
    ) -> list[tuple[Encoded, tuple[tuple[str, int], ...]]]:
        """Every different input once, with the places that its logits go to."""
        limits = length_limits({name: loaded.tasks[name] for name in names}, None, self._longest)
        # One token more than fits tells a text that is too long from one that just fits.
        wanted = limits if truncate else {name: limit + 1 for name, limit in limits.items()}

        def encode_inputs(items: list[Input], limit: int) -> list[Encoded]:
            try:
                return encode(self._tokenizer, items, limit)  # type: ignore[arg-type]
            except LetsError as error:
                raise ApiError(422, TOKENIZER, "tokenizer", str(error)) from error

        found = []
        for batch in batches(dict.fromkeys(names, texts), wanted, encode_inputs, len(texts)):
            for tokens, slots in zip(batch.rows, batch.slots):
                for task, position in slots:
                    if len(tokens.input_ids) > limits[task]:
                        raise ApiError(
                            413, VALIDATION, "tokens",
                            f"`inputs`[{position}] must have at most {limits[task]} tokens for "
                            f"task {task}, got more; shorten it, or set `truncate`",
                        )  # fmt: skip
                found.append((tokens, slots))
        return found
