"""Engine: one call on texts, one pass of the frozen encoder, one answer per task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.heap import give_back_freed, keep_freed
from lets.pack import load_pack
from lets.pack_config import check_task_name
from lets.run.inputs import (
    Inputs,
    check_count,
    check_names,
    input_error,
    inputs_by_task,
    length_limits,
)
from lets.run.modes import check_mode, run
from lets.run.output import TaskOutput
from lets.run.task_set import TaskSet
from lets.run.work import Input, batches
from lets.task import Task
from lets.tokens import Encoded, TokenBatch, collate, encode

_KEPT_BYTES = 256 << 20  # of freed activations: more than a call's at the usual sizes


class Engine:
    """Tasks on one frozen encoder.

        engine = Engine.from_pretrained("bert-base-uncased", ["packs/topic", "packs/spam"])
        engine(["Stocks fell.", "You won!"])["spam"].labels

    Tasks may be added and removed between calls, from other threads too: a call answers for the
    tasks that were there when it began.

    Args:
        encoder: The engine packs its matrices into copies of its own; whoever keeps the encoder
            keeps the plain ones too.
        batch_size: Most texts of one pass.
        mode: `serial`, `stacked`, `streams`, or `auto`: the first or the second, by a measured
            calibration of the machine. LETS_ENGINE_MODE takes the place of `auto`.
        pad_to_multiple_of: Lengths of batches, for fewer different sizes.
        graphs: On CUDA, capture and replay a graph per size (not measured so far).
        quantization: "int8": products with the encoder's matrices in 8-bit integers (experiment;
            float32 encoders on a CPU with VNNI). Deltas, [CLS] attention and all else stay float32.
    """

    def __init__(
        self,
        encoder: Encoder,
        tasks: Iterable[Task] = (),
        *,
        batch_size: int = 32,
        mode: str = "auto",
        pad_to_multiple_of: int = 1,
        graphs: bool = False,
        quantization: str | None = None,
    ) -> None:
        self.quantization = quantization
        self.batch_size = check_count("batch_size", batch_size)
        self.pad_to_multiple_of = check_count("pad_to_multiple_of", pad_to_multiple_of)
        self.mode, self.graphs = check_mode(mode), graphs
        keep_freed(_KEPT_BYTES)
        self._writing = threading.Lock()
        self._set = TaskSet(encoder.packed(quantization), {})
        self.add_tasks(tasks)

    @classmethod
    def from_pretrained(
        cls,
        encoder: Encoder | str | Path,
        packs: Iterable[Task | str | Path],
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        batch_size: int = 32,
        mode: str = "auto",
        pad_to_multiple_of: int = 1,
        graphs: bool = False,
        quantization: str | None = None,
    ) -> Engine:
        """An engine of an encoder (folder, hub id or loaded) and packs (folders, ids or tasks)."""
        if isinstance(packs, (str, Path)):
            raise LetsError(f"engine: packs must be a list, got {packs!r}; write [{str(packs)!r}]")
        if not isinstance(packs, Iterable):
            raise LetsError(f"engine: packs must be a list, got {type(packs).__name__}")
        if not isinstance(encoder, Encoder):
            encoder = Encoder.from_pretrained(encoder, revision, dtype, device)
        engine = cls(
            encoder, batch_size=batch_size, mode=mode,
            pad_to_multiple_of=pad_to_multiple_of, graphs=graphs, quantization=quantization,
        )  # fmt: skip
        del encoder  # loaded here, its plain matrices are nobody's any more
        give_back_freed()
        engine.add_tasks(packs)
        return engine

    @property
    def encoder(self) -> Encoder:
        """The encoder, packed as the tasks that are loaded now read it; no other one is held."""
        return self._set.encoder

    @property
    def tasks(self) -> dict[str, Task]:
        """The loaded tasks by name; their weights are views of the engine's."""
        return dict(self._set.tasks)

    @property
    def task_set(self) -> TaskSet:
        """What a call that began now would answer with; it never changes."""
        return self._set

    def memory(self) -> dict[str, int]:
        """Bytes held: of the encoder, with what it keeps beside it for the tasks, and of the tasks.

        `model`: one dense model of this shape and precision, to compare with.
        """
        loaded, model = self._set, self.encoder.shape.num_parameters * self.encoder.dtype.itemsize
        tasks = sum(tensor.numel() * tensor.element_size() for tensor in loaded.stacks.tensors())
        return {"encoder": loaded.encoder.num_bytes(), "tasks": tasks, "model": model}

    def add_task(
        self,
        task: Task | str | Path,
        name: str | None = None,
        *,
        replace: bool = False,
        check: Callable[[TaskSet], object] | None = None,
    ) -> str:
        """Load a pack or a task; returns the name it answers under.

        Args:
            name: In place of the task's own.
            replace: Take the place of a task of this name.
            check: Sees the tasks as they would be; when it raises, they stay as they are.
        """
        return self._add([(task, name)], replace, check)[0]

    def add_tasks(self, tasks: Iterable[Task | str | Path]) -> list[str]:
        """Load several packs or tasks at once: all of them, or none if one is refused."""
        return self._add([(task, None) for task in tasks], False)

    def _add(
        self,
        tasks: Sequence[tuple[Task | str | Path, str | None]],
        replace: bool,
        check: Callable[[TaskSet], object] | None = None,
    ) -> list[str]:
        loaded: dict[str, Task] = {}
        for task, name in tasks:
            if not isinstance(task, (Task, str, Path)):
                raise LetsError(
                    "engine: task must be a Task, or the folder or hub id of a pack, "
                    f"got {type(task).__name__}"
                )
            task = task if isinstance(task, Task) else load_pack(task, self.encoder)
            name = check_task_name(task.name if name is None else name)
            if name in loaded:
                raise LetsError(
                    f"engine: task {name} is given twice; add one of them under another name"
                )
            loaded[name] = task
        with self._writing:
            there = [name for name in loaded if name in self._set.tasks]
            if there and not replace:
                raise LetsError(
                    f"engine: task {there[0]} is there already; remove it first, or add this one "
                    "under another name"
                )
            if loaded:
                successor = self._set.with_tasks(loaded)
                if check is not None:
                    check(successor)
                self._set = successor  # running calls keep the set they have
        return list(loaded)

    def remove_task(self, name: str) -> Task:
        """Unload a task and return it, with weights of its own."""
        with self._writing:
            current = self._set
            current.check_known([name])
            task = current.detached(name)
            self._set = current.without(name)
        return task

    @torch.inference_mode()
    def __call__(
        self,
        texts: Inputs | Mapping[str, Inputs],
        tasks: Sequence[str] | None = None,
        *,
        batch_size: int | None = None,
        max_length: int | None = None,
    ) -> dict[str, TaskOutput]:
        """Every task's answers, in the order of the texts.

        Args:
            texts: Texts or pairs that all tasks answer, or a mapping from task to its own.
            tasks: Names; default: all, or those of the mapping.
            max_length: Truncates earlier than the tasks do.

        Returns:
            Per task a `TaskOutput`. Where a task's inputs are wrong, its `error` says how, and the
            others answer.
        """
        loaded = self._set
        wanted = inputs_by_task(texts, tasks, loaded)
        errors = {
            name: input_error(loaded.tasks[name], name, items) for name, items in wanted.items()
        }
        outputs = {
            name: TaskOutput(loaded.tasks[name], None, error)
            for name, error in errors.items()
            if error is not None
        }
        inputs: dict[str, list[Input]] = {
            name: [item if isinstance(item, str) else (item[0], item[1]) for item in items]
            for name, items in wanted.items()
            if name not in outputs
        }
        if inputs:
            size = self.batch_size if batch_size is None else check_count("batch_size", batch_size)
            limits = length_limits(
                {name: loaded.tasks[name] for name in inputs}, max_length, self.encoder.max_length
            )
            outputs |= self._answer(inputs, limits, size, loaded)
        return {name: outputs[name] for name in wanted}

    @torch.inference_mode()
    def forward(
        self,
        tokens: TokenBatch,
        tasks: Sequence[str] | None = None,
        task_set: TaskSet | None = None,
    ) -> dict[str, Tensor]:
        """Logits of token ids that every task answers, without tokenizing. [B, C] per task

        Args:
            task_set: An earlier `task_set` of this engine; default: the tasks loaded now.
        """
        loaded = self._set if task_set is None else task_set
        if not isinstance(tokens, TokenBatch):
            raise LetsError(f"engine: tokens must be a TokenBatch, got {type(tokens).__name__}")
        names = list(loaded.tasks if tasks is None else dict.fromkeys(check_names(tasks)))
        loaded.check_known(names)
        return self._forward(tokens, tuple(names), loaded) if names else {}

    def _answer(
        self,
        inputs: Mapping[str, Sequence[Input]],
        limits: Mapping[str, int],
        batch_size: int,
        loaded: TaskSet,
    ) -> dict[str, TaskOutput]:
        tokenizer: Any = self.encoder.tokenizer
        logits = {
            name: torch.empty(len(items), loaded.tasks[name].head.num_labels)
            for name, items in inputs.items()
        }

        def encode_inputs(items: list[Any], limit: int) -> list[Any]:
            return encode(tokenizer, items, limit)

        for batch in batches(inputs, limits, encode_inputs, batch_size):
            tokens = self._collate(batch.rows)
            for name, answer in self._forward(tokens, batch.tasks, loaded).items():
                _scatter(logits[name], name, answer.float().cpu(), batch.slots)
        return {name: TaskOutput(loaded.tasks[name], logits[name]) for name in inputs}

    def _collate(self, rows: Sequence[Encoded]) -> TokenBatch:
        longest, step = max(len(row.input_ids) for row in rows), self.pad_to_multiple_of
        padded = min(-(-longest // step) * step, self.encoder.max_length)
        pad_token_id = self.encoder.tokenizer.pad_token_id or 0
        return collate(rows, pad_token_id, padded).to(self.encoder.device)

    def _forward(
        self, tokens: TokenBatch, names: tuple[str, ...], loaded: TaskSet
    ) -> dict[str, Tensor]:
        try:
            return run(loaded, names, tokens, self.mode, self.graphs)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            batch, length = tokens.input_ids.shape
            raise LetsError(
                f"engine: {batch} texts of {length} tokens do not fit into memory for {len(names)} "
                "tasks; use a smaller batch_size or max_length"
            ) from error


def _scatter(
    out: Tensor, name: str, logits: Tensor, slots: Sequence[Sequence[tuple[str, int]]]
) -> None:
    """Put a batch's logits where their inputs stood."""
    places = [
        (position, row)
        for row, owners in enumerate(slots)
        for task, position in owners
        if task == name
    ]
    positions, rows = map(list, zip(*places))
    out[positions] = logits[rows]


def _is_out_of_memory(error: Exception) -> bool:
    """Whether an allocator gave up; on the CPU torch raises a plain RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return "not enough memory" in str(error) or "can't allocate memory" in str(error)
