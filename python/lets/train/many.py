"""Several tasks of one encoder: one after the other, or one a worker of a Ray cluster."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lets.config import FitConfig
from lets.encoder import Encoder, check_device
from lets.errors import LetsError
from lets.policy import Policy
from lets.progress import Progress
from lets.task_data import TaskData
from lets.train.fit import fit

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class TaskRun:
    """What `fit` is called with for one task; travels to a worker.

    Args:
        policy: A preset or a file: no search.
        output_dir: Results and checkpoints; on several machines a folder that all of them see.
    """

    encoder: str
    data: TaskData
    config: FitConfig
    output_dir: str
    policy: str | None = None
    revision: str | None = None
    overwrite: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class RayOptions:
    """Where tasks run.

    Args:
        address: Of a cluster; None: one on this machine, as long as the call lasts.
        workers: Of the cluster on this machine; default: its cores.
        cpus_per_task: Cores, and threads, of each task.
        gpus_per_task: Shares of a GPU, for tasks whose device is cuda.
        max_retries: How often a task is started again whose worker died.
    """

    address: str | None = None
    workers: int | None = None
    cpus_per_task: int = 1
    gpus_per_task: float = 1.0
    max_retries: int = 3


def fit_many(
    runs: Sequence[TaskRun],
    engine: str = "local",
    ray: RayOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """`FitResult.to_dict()` by task. What is complete is skipped, what was interrupted goes on.

    Raises:
        LetsError: tasks that cannot be trained, by name; all the others are complete then.
    """
    if engine not in ENGINES:
        raise LetsError(f"fit: engine must be one of {', '.join(ENGINES)}, got {engine!r}")
    names = [run.data.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LetsError(f"fit: tasks must have different names, got {twice[0]} more than once")
    progress = progress or Progress()
    finished = _locally(runs, progress) if engine == "local" else _on_ray(runs, ray or RayOptions())
    results, errors = {}, {}
    for name, result in finished:
        if isinstance(result, LetsError):
            errors[name] = result
            progress.note(f"{name}: {result}")
        else:
            results[name] = result
            progress.note(f"{name}: {result['metric']} {result['dev_score']:.4f}")
    if errors:
        told = "; ".join(f"{name}: {error}" for name, error in errors.items())
        raise LetsError(f"fit: {len(errors)} of {len(runs)} tasks failed: {told}")
    return {name: results[name] for name in names}


def fit_one(run: TaskRun, progress: Progress | None = None) -> dict[str, Any]:
    """One task, alone in its folder."""
    encoder = _encoder(run.encoder, run.revision, run.device)
    shape = encoder.shape
    policy = run.policy and Policy.from_spec(run.policy, shape.num_layers, shape.name)
    with _alone(Path(run.output_dir)):
        result = fit(
            encoder, run.data, run.config, run.output_dir, progress, policy or None, run.overwrite
        )
    return result.to_dict()


@functools.lru_cache(maxsize=1)  # a worker trains tasks of one encoder
def _encoder(source: str, revision: str | None, device: str) -> Encoder:
    return Encoder.from_pretrained(source, revision=revision, device=device)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until nobody else trains in a folder: workers may outlive a driver that was killed.

    The lock ends with the process; the file says who has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


Finished = Iterator[tuple[str, dict[str, Any] | LetsError]]


def _locally(runs: Sequence[TaskRun], progress: Progress) -> Finished:
    for run in runs:
        try:
            yield run.data.name, fit_one(run, progress)
        except LetsError as error:
            yield run.data.name, error


def _on_ray(runs: Sequence[TaskRun], options: RayOptions) -> Finished:
    """Tasks as Ray gives them to workers; a dead worker's task starts again where it was."""
    try:
        import ray
    except ImportError:
        raise LetsError("fit: --engine ray needs Ray; pip install 'lets-ext[ray]'") from None
    own = not ray.is_initialized()
    if own and not options.address:
        for run in runs:  # Ray would wait for a GPU for ever
            check_device(run.device)
    if own:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        local: dict[str, Any] = (
            {} if options.address else {"num_cpus": options.workers, "include_dashboard": False}
        )
        ray.init(options.address, log_to_driver=False, logging_level=logging.ERROR, **local)
    remote = ray.remote(num_cpus=options.cpus_per_task, max_retries=options.max_retries)(_in_worker)
    try:
        waiting = {
            remote.options(num_gpus=options.gpus_per_task if run.device == "cuda" else 0).remote(
                run, options.cpus_per_task
            ): run.data.name
            for run in runs
        }
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            name = waiting.pop(done)
            try:
                yield name, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, LetsError):
                    raise
                yield name, LetsError(str(error.cause))
            except ray.exceptions.WorkerCrashedError:
                yield name, LetsError(f"its worker died {options.max_retries + 1} times")
    finally:
        if own:
            ray.shutdown()


def _in_worker(run: TaskRun, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    return fit_one(run)
