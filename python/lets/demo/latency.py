"""Latency of the demo's engine beside one dense fine-tuned model per task, in one run."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lets.bench.baselines.base import Forward, Inputs, as_inputs
from lets.bench.baselines.eager import eager_forward
from lets.bench.baselines.onnx_runtime import export, onnx_runtime_available, session_forward
from lets.bench.check import Difference, engine_difference
from lets.bench.measure import interleaved
from lets.bench.problem import random_batch
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.pack import load_pack
from lets.precision import tolerance
from lets.run.engine import Engine
from lets.task import Task
from lets.tokens import TokenBatch
from lets_ext.env import report as environment

_TASK_COUNTS = (3, 9)
_BATCHES = (1, 16)


def demo_latency(
    encoder: Encoder, packs: Mapping[str, Path], models: Sequence[Path], folder: Path, seq_len: int
) -> dict[str, Any]:
    """Milliseconds of one batch for 3 and 9 tasks; nine are the three found ones, three times.

    Every answer is compared before any time is taken: the engine with the plain evaluation of the
    same packs, each dense baseline with eager PyTorch. Tokenising is left out on both sides.
    """
    batches = [random_batch(encoder, size, seq_len) for size in _BATCHES]
    dense = _dense_models(models, folder, batches[0])
    loaded = {name: load_pack(path, encoder) for name, path in packs.items()}
    rows, difference = [], 0.0
    for count in _TASK_COUNTS:
        tasks = [
            replace(task, name=f"{name}-{number + 1}")
            for number in range(count // len(loaded))
            for name, task in loaded.items()
        ]
        engine = Engine(encoder, tasks)
        for batch in batches:
            difference = max(difference, _check_engine(engine, tasks[: len(loaded)], batch))
            rows.append(_measure(engine, dense, count, batch))
    return {
        "rows": rows,
        "max_abs_difference": difference,
        "machine": environment(),
        "dense": "fp32; tokenised once, one pass per model",
    }


def _measure(
    engine: Engine, dense: Mapping[str, list[Forward]], count: int, batch: TokenBatch
) -> dict[str, Any]:
    inputs = as_inputs(batch)
    candidates: dict[str, Callable[[], object]] = {"lets": lambda: engine.forward(batch)}
    for name, forwards in dense.items():
        candidates[name] = functools.partial(_run_all, forwards[:count], inputs)
    milliseconds = {k: 1e3 * v.median for k, v in interleaved(candidates).items()}
    ours = milliseconds.pop("lets")
    best = min(milliseconds, key=milliseconds.__getitem__)
    return {
        "tasks": count,
        "batch": batch.input_ids.shape[0],
        "tokens": batch.input_ids.shape[1],
        "lets_ms": round(ours, 3),
        "dense_ms": {k: round(v, 3) for k, v in milliseconds.items()},
        "best_dense": best,
        "speedup": round(milliseconds[best] / ours, 3),
    }


def _run_all(forwards: Sequence[Forward], inputs: Inputs) -> None:
    for forward in forwards:
        forward(inputs)


def _check_engine(engine: Engine, tasks: Sequence[Task], batch: TokenBatch) -> float:
    found = engine_difference(engine.forward(batch), engine.encoder, tasks, batch)
    if not found.within(tolerance(torch.float32)):
        raise LetsError(
            "demo: the engine's logits must equal a plain evaluation of the packs, differ by "
            f"{found.absolute:.2e}; no latency is reported"
        )
    return found.absolute


def _dense_models(
    models: Sequence[Path], folder: Path, batch: TokenBatch
) -> dict[str, list[Forward]]:
    """As many separate models as the largest count of tasks, per kind of baseline."""
    from transformers import AutoModelForSequenceClassification

    loaded = [
        AutoModelForSequenceClassification.from_pretrained(path, trust_remote_code=False).eval()
        for path in models
    ]
    copies = [copy.deepcopy(loaded[i % len(loaded)]) for i in range(max(_TASK_COUNTS))]
    kinds = {"eager": [eager_forward(model) for model in copies]}
    if onnx_runtime_available():
        paths = [folder / f"{i}.onnx" for i in range(len(loaded))]
        for model, path in zip(loaded, paths):
            export(model, path)
        threads = torch.get_num_threads()
        sessions = [session_forward(paths[i % len(paths)], threads) for i in range(len(copies))]
        inputs = as_inputs(batch)
        found = Difference.of(
            (session(inputs) for session in sessions), (eager(inputs) for eager in kinds["eager"])
        )
        if not found.within(tolerance(torch.float32)):
            raise LetsError(
                f"demo: ONNX Runtime must equal eager PyTorch, differs by {found.absolute:.2e}"
            )
        kinds["onnxruntime"] = sessions
    return kinds
