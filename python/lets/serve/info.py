"""What /info tells: the model as text-embeddings-inference names it, the tasks, and their plan."""

from __future__ import annotations

import asyncio
import weakref
from pathlib import Path
from typing import Any

from lets import __version__
from lets.plan.report import Request, plan_report
from lets.report.architecture import architecture_svg
from lets.run.task_set import TaskSet
from lets.serve.errors import VALIDATION, ApiError
from lets.serve.service import Service

_PLAN_TOKENS = 128


class Info:
    """The plan of a set of tasks is made once."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._plans: weakref.WeakKeyDictionary[TaskSet, Any] = weakref.WeakKeyDictionary()

    async def describe(self) -> dict[str, Any]:
        loaded = self._service.engine.task_set
        if loaded not in self._plans:
            self._plans[loaded] = (
                await asyncio.to_thread(self._plan, loaded) if loaded.tasks else None
            )
        return self._model(loaded) | {
            "tasks": [_task(name, loaded) for name in loaded.tasks],
            "plan": self._plans[loaded],
        }

    def drawing(self) -> str:
        """The architecture of the loaded tasks as SVG."""
        tasks = self._service.engine.task_set.tasks
        if not tasks:
            raise ApiError(404, VALIDATION, "no_task", "no task is loaded")
        policies = {name: task.policy for name, task in tasks.items()}
        return architecture_svg(policies, Path(self._service.engine.encoder.source).name)

    def _model(self, loaded: TaskSet) -> dict[str, Any]:
        encoder, settings = self._service.engine.encoder, self._service.settings
        return {
            "model_id": public_name(encoder.source),
            "model_sha": encoder.fingerprint,
            "model_dtype": str(encoder.dtype).removeprefix("torch."),
            "model_type": _model_type(loaded),
            "max_input_length": encoder.max_length,
            "max_concurrent_requests": settings.max_concurrent_requests,
            "max_batch_tokens": settings.max_batch_tokens,
            "max_batch_requests": settings.max_batch_requests,
            "max_client_batch_size": settings.max_client_batch_size,
            "max_queue": settings.max_queue,
            "payload_limit": settings.payload_limit,
            "auto_truncate": settings.auto_truncate,
            "tokenization_workers": 1,
            "version": __version__,
        }

    def _plan(self, loaded: TaskSet) -> dict[str, Any]:
        encoder = self._service.engine.encoder
        request = Request(
            encoder.shape,
            list(loaded.stacks.specs.values()),
            1,
            min(_PLAN_TOKENS, encoder.max_length),
            self._service.costs.rates,
            encoder.dtype.itemsize,
        )
        return plan_report(request) | {"encoder": public_name(encoder.source)}


def public_name(source: str) -> str:
    """A hub id as it is; of a folder its name, for where it lies is nobody's business."""
    return Path(source).name if Path(source).exists() else source


def _model_type(loaded: TaskSet) -> dict[str, Any]:
    """Labels by number, where there is one task to name them for."""
    if len(loaded.tasks) != 1:
        return {"classifier": {"id2label": {}, "label2id": {}}}
    (labels,) = (task.labels for task in loaded.tasks.values())
    return {
        "classifier": {
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }
    }


def _task(name: str, loaded: TaskSet) -> dict[str, Any]:
    task = loaded.tasks[name]
    return {
        "name": name,
        "labels": list(task.labels),
        "problem_type": task.problem_type,
        "is_pair": task.is_pair,
        "max_length": task.max_length,
        "non_zeros": task.nnz,
        "policy": task.policy.to_dict(),
        "cases": [str(case) for case in task.policy.cases],
    }
