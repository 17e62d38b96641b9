"""The admin routes, on a port of their own: tasks come and go while requests are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, StrictStr

from lets.errors import LetsError
from lets.pack import CONFIG, read_pack
from lets.precision import tolerance
from lets.run.engine import Engine
from lets.run.task_set import TaskSet
from lets.serve.access_log import event
from lets.serve.app import add_health, guarded, new_app
from lets.serve.auth import LocalNames
from lets.serve.errors import VALIDATION, ApiError
from lets.serve.service import Service
from lets.serve.threads import in_passing
from lets.validate import check_sample_outputs


class PackRequest(BaseModel):
    """A pack that the server can read: a folder on its disk, or a hub id."""

    pack: StrictStr
    name: StrictStr | None = Field(None, description="Default: the pack's own.")


class ReplaceRequest(BaseModel):
    pack: StrictStr


def admin_app(service: Service) -> Any:
    """The ASGI application of those who run the server."""
    app = new_app("LeTS administration")
    admin = Admin(service)
    add_health(app, service)

    @app.get("/tasks")
    async def tasks() -> Any:
        """The loaded tasks and how many texts wait."""
        loaded = service.engine.task_set.tasks
        return {"tasks": list(loaded), "queue": service.batcher.waiting}

    @app.post("/tasks", status_code=201)
    async def add(wanted: PackRequest) -> Any:
        """Add a task; 409 where its name is taken."""
        return JSONResponse(await admin.add(wanted.pack, wanted.name, replace=False), 201)

    @app.put("/tasks/{name}")
    async def replace(name: str, wanted: ReplaceRequest) -> Any:
        """Add a task, or put another in its place, between two requests."""
        return await admin.add(wanted.pack, name, replace=True)

    @app.delete("/tasks/{name}")
    async def remove(name: str) -> Any:
        """Remove a task; requests that are under way are still answered."""
        return await admin.remove(name)

    key = service.settings.admin_key
    return guarded(LocalNames(app) if key is None else app, service, key)


class Admin:
    """Changes of the engine's tasks, one at a time, away from the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._thread = ThreadPoolExecutor(1, "lets-admin")

    async def add(self, pack: str, name: str | None, replace: bool) -> dict[str, Any]:
        return await _to_its_end(self._add(pack, name, replace))

    async def remove(self, name: str) -> dict[str, Any]:
        return await _to_its_end(self._remove(name))

    async def _add(self, pack: str, name: str | None, replace: bool) -> dict[str, Any]:
        begun, engine = time.perf_counter(), self._service.engine
        there = set(engine.task_set.tasks)
        try:
            added = await self._run(lambda: add_checked(engine, pack, name, replace))
        except LetsError as error:
            self._service.metrics.task_change("refused")
            taken = name in there or "is there already" in str(error)
            status = 409 if taken and not replace else 422
            raise ApiError(status, VALIDATION, "pack", str(error)) from error
        change = "replaced" if added["task"] in there else "added"
        self._service.metrics.task_change(change)
        milliseconds = round(1e3 * (time.perf_counter() - begun), 1)
        event(f"task {change}", task=added["task"], ms=milliseconds)
        return {**added, "change": change, "ms": milliseconds}

    async def _remove(self, name: str) -> dict[str, Any]:
        try:
            await self._run(lambda: self._service.engine.remove_task(name))
        except LetsError as error:
            raise ApiError(404, VALIDATION, "unknown_task", str(error)) from error
        self._service.metrics.task_change("removed")
        event("task removed", task=name)
        return {"task": name, "change": "removed"}

    async def _run(self, change: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, in_passing, change)


async def _to_its_end(change: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """A change goes on, and is logged and counted, when its client hangs up or its time is over."""
    return await asyncio.shield(asyncio.ensure_future(change))


def add_checked(
    engine: Engine, pack: str | Path, name: str | None = None, replace: bool = False
) -> dict[str, Any]:
    """Load a pack whose stored samples come out of this very engine as they were stored.

    They are computed with all tasks loaded as they would be, before any request sees the new one.
    """
    config, task = read_pack(pack, engine.encoder)
    if not config.samples:
        raise LetsError(f"{pack}: stores no samples, so nothing shows that it answers as it should")
    name = task.name if name is None else name
    difference = 0.0

    def check(loaded: TaskSet) -> None:
        nonlocal difference
        inputs = [sample.input for sample in config.samples]
        found = _logits(engine, loaded, name, inputs, task.max_length)
        allowed = tolerance(engine.encoder.dtype, engine.quantization)
        difference = check_sample_outputs(config, found, f"{pack}/{CONFIG}", allowed)

    engine.add_task(task, name, replace=replace, check=check)
    return {"task": name, "samples": len(config.samples), "max_difference": difference}


def _logits(
    engine: Engine, loaded: TaskSet, name: str, inputs: Sequence[Any], max_length: int
) -> torch.Tensor:
    """One text at a time, as packs store them, and every task with it, as requests are."""
    rows = []
    for text in inputs:
        tokens = engine.encoder.tokenize([text], max_length)
        rows.append(engine.forward(tokens, list(loaded.tasks), loaded)[name])
    return torch.cat(rows).float().cpu()
