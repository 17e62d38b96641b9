"""LetsModel: tasks on one frozen encoder under the verbs of PEFT and transformers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.pack import expand_packs, read_pack, save_pack
from lets.run.engine import Engine
from lets.run.inputs import Inputs
from lets.run.output import TaskOutput
from lets.task import Task


@dataclass(frozen=True)
class TaskStatus:
    """What `get_task_status` tells of a task."""

    name: str
    active: bool
    problem_type: str
    labels: tuple[str, ...]
    policy: dict[str, str]
    live_layers: tuple[int, ...]
    non_zeros: int
    trainable_params: int
    dtype: str
    device: str


class LetsModel:
    """An encoder and its tasks.

        model = LetsModel.from_pretrained("bert-base-uncased", ["packs/topic", "packs/spam"])
        model.set_tasks("spam")
        model(["You won!"])["spam"].labels

    Attributes:
        engine: What answers; every option of it is there.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._active: tuple[str, ...] | None = None  # None: all tasks, those to come included
        self._results: dict[str, dict[str, float]] = {}

    @classmethod
    def from_pretrained(
        cls,
        encoder: Encoder | str | Path,
        tasks: str | Path | Iterable[str | Path] = (),
        **engine_options: Any,
    ) -> LetsModel:
        """An encoder (folder, hub id or loaded) and its tasks.

        Args:
            tasks: What `save_pretrained` wrote, or packs: folders or hub ids.
            engine_options: Of `Engine.from_pretrained`: revision, dtype, device, mode, ...
        """
        model = cls(Engine.from_pretrained(encoder, [], **engine_options))
        for pack in expand_packs([tasks]) if isinstance(tasks, (str, Path)) else tasks:
            model.load_task(pack)
        return model

    @property
    def encoder(self) -> Encoder:
        return self.engine.encoder

    @property
    def tasks(self) -> dict[str, Task]:
        return self.engine.tasks

    @property
    def active_tasks(self) -> list[str]:
        """The tasks that answer."""
        return list(self.tasks if self._active is None else self._active)

    def __call__(self, texts: Inputs, **options: Any) -> dict[str, TaskOutput]:
        """Answers of the active tasks, in one pass; options are the engine's."""
        return self.engine(texts, self.active_tasks, **options)

    def add_task(self, task_name: str, task: Task) -> str:
        """Add a trained task under a name."""
        return self.engine.add_task(task, task_name)

    def load_task(self, model_id: str | Path, task_name: str | None = None) -> str:
        """Load a pack (folder or hub id); returns the name it answers under."""
        config, task = read_pack(model_id, self.encoder)
        name = self.engine.add_task(task, task_name)
        self._results[name] = dict(config.results)
        return name

    def delete_task(self, task_name: str) -> None:
        self.engine.remove_task(task_name)
        self._results.pop(task_name, None)
        if self._active is not None:
            self._active = tuple(name for name in self._active if name != task_name)

    def set_tasks(self, task_names: str | Sequence[str] | None) -> None:
        """Choose the tasks that answer; None: all of them."""
        if task_names is None:
            self._active = None
            return
        names = [task_names] if isinstance(task_names, str) else list(task_names)
        self._check_known(names)
        self._active = tuple(dict.fromkeys(names))

    def save_pretrained(
        self,
        save_directory: str | Path,
        selected_tasks: Sequence[str] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Write a task pack <save_directory>/<task> each; the encoder is not copied.

        Args:
            selected_tasks: Default: all.
            dtype: Of the stored delta values.
        """
        names = list(self.tasks) if selected_tasks is None else list(selected_tasks)
        self._check_known(names)
        for name in names:
            self._save(Path(save_directory) / name, name, dtype)

    def push_to_hub(
        self,
        repo_id: str,
        task_name: str | None = None,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Any:
        """Upload one task as a pack of its own, which `load_task(repo_id)` reads.

        Args:
            task_name: May be left out if there is only one.
        """
        from huggingface_hub import HfApi

        name = self._one(task_name, "push_to_hub")
        api = HfApi(token=token)
        repo = api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            return api.upload_folder(
                repo_id=repo.repo_id,
                folder_path=self._save(Path(folder) / name, name, dtype),
                commit_message=commit_message or f"Upload task {name}",
                revision=revision,
            )

    def merge_and_unload(self, task_name: str | None = None) -> Any:
        """The plain classifier of transformers that a LeTS-(p) task is.

        Args:
            task_name: May be left out if there is only one.
        """
        from lets.convert.merge import merge_and_unload

        return merge_and_unload(self.tasks[self._one(task_name, "merge_and_unload")], self.encoder)

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """What the active tasks train, and that together with the encoder."""
        trainable = sum(num_parameters(self.tasks[name]) for name in self.active_tasks)
        return trainable, trainable + self.encoder.shape.num_parameters

    def print_trainable_parameters(self) -> None:
        trainable, total = self.get_nb_trainable_parameters()
        print(
            f"trainable params: {trainable:,d} || all params: {total:,d} || "
            f"trainable%: {100 * trainable / total:.4f}"
        )

    def get_task_status(self) -> list[TaskStatus]:
        """What is loaded, in the order in which it was."""
        active = self.active_tasks
        return [
            TaskStatus(
                name=name,
                active=name in active,
                problem_type=task.problem_type,
                labels=task.labels,
                policy=task.policy.to_dict(),
                live_layers=tuple(task.policy.live_layers),
                non_zeros=task.nnz,
                trainable_params=num_parameters(task),
                dtype=str(self.encoder.dtype).removeprefix("torch."),
                device=str(self.encoder.device),
            )
            for name, task in self.tasks.items()
        ]

    def _save(self, folder: Path, name: str, dtype: torch.dtype) -> Path:
        task = replace(self.tasks[name], name=name)
        return save_pack(folder, task, self.encoder, dtype=dtype, results=self._results.get(name))

    def _one(self, task_name: str | None, verb: str) -> str:
        """A task's name, or that of the only task."""
        if task_name is None and len(self.tasks) != 1:
            raise LetsError(
                f"{verb}: task_name must be one of {', '.join(self.tasks) or 'no task'}"
            )
        name = next(iter(self.tasks)) if task_name is None else task_name
        self._check_known([name])
        return name

    def _check_known(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.tasks:
                known = ", ".join(self.tasks) or "none"
                raise LetsError(f"model: no task {name!r}; loaded: {known}")


def num_parameters(task: Task) -> int:
    """What training trains of a task: non-zeros (or whole matrices), biases, LayerNorms, head."""
    layers = [*task.vectors.values(), *(task.dense or {}).values()]
    stored = sum(tensor.numel() for layer in layers for tensor in layer.values())
    return task.nnz + stored + sum(p.numel() for p in task.head.parameters())
