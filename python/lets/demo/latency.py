"""Latency of the demo's engine beside one dense fine-tuned model per task, in one run."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lets.dense import evaluate_densely
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.latency import (
    Forward,
    eager_forward,
    interleaved_medians,
    onnx_runtime_available,
    onnx_runtime_forward,
)
from lets.pack import load_pack
from lets.run.engine import Engine
from lets.tokens import TokenBatch
from lets_ext.env import report as environment

TOLERANCE = 1e-4  # on logits in float32
_TASK_COUNTS = (3, 9)
_BATCHES = (1, 16)


def demo_latency(
    encoder: Encoder, packs: Mapping[str, Path], models: Sequence[Path], folder: Path, seq_len: int
) -> dict[str, Any]:
    """Milliseconds of one batch for 3 and 9 tasks; nine are the three found ones, three times.

    Every answer is compared before any time is taken: the engine with the plain evaluation of the
    same packs, each dense baseline with eager PyTorch. Tokenising is left out on both sides.
    """
    batches = [_random_batch(encoder, size, seq_len) for size in _BATCHES]
    dense = _dense_models(models, folder, batches[0])
    rows, difference = [], 0.0
    for count in _TASK_COUNTS:
        engine = Engine(encoder)
        for number in range(count // len(packs)):
            for name, path in packs.items():
                engine.add_task(load_pack(path, encoder), name=f"{name}-{number + 1}")
        for batch in batches:
            difference = max(difference, _check_engine(engine, encoder, packs, batch))
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
    inputs = _as_dict(batch)
    candidates: dict[str, Callable[[], object]] = {"lets": lambda: engine.forward(batch)}
    for name, forwards in dense.items():
        candidates[name] = functools.partial(_run_all, forwards[:count], inputs)
    milliseconds = {k: 1e3 * v for k, v in interleaved_medians(candidates).items()}
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


def _run_all(forwards: Sequence[Forward], inputs: dict[str, Tensor]) -> None:
    for forward in forwards:
        forward(inputs)


def _check_engine(
    engine: Engine, encoder: Encoder, packs: Mapping[str, Path], batch: TokenBatch
) -> float:
    answers, worst = engine.forward(batch), 0.0
    for name, path in packs.items():
        with torch.inference_mode():
            expected = evaluate_densely(load_pack(path, encoder).to_model(encoder), batch)
        worst = max(worst, float((answers[f"{name}-1"] - expected).abs().max()))
    if not worst <= TOLERANCE:
        raise LetsError(
            f"demo: the engine's logits must equal a plain evaluation of the packs to {TOLERANCE}, "
            f"got {worst:.2e}; no latency is reported"
        )
    return worst


def _dense_models(
    models: Sequence[Path], folder: Path, batch: TokenBatch
) -> dict[str, list[Forward]]:
    """As many separate models as the largest count of tasks, per kind of baseline."""
    from transformers import AutoModelForSequenceClassification

    loaded = [AutoModelForSequenceClassification.from_pretrained(path).eval() for path in models]
    copies = [copy.deepcopy(loaded[i % len(loaded)]) for i in range(max(_TASK_COUNTS))]
    kinds = {"eager": [eager_forward(model) for model in copies]}
    if onnx_runtime_available():
        folder.mkdir(parents=True, exist_ok=True)
        threads, kinds["onnxruntime"] = torch.get_num_threads(), []
        for i, model in enumerate(copies):
            path = folder / f"{i % len(loaded)}.onnx"
            kinds["onnxruntime"].append(
                onnx_runtime_forward(model, path, threads, export=i < len(loaded))
            )
        inputs = _as_dict(batch)
        for ours, theirs in zip(kinds["eager"], kinds["onnxruntime"]):
            difference = float((ours(inputs) - theirs(inputs)).abs().max())
            if not difference <= TOLERANCE:
                raise LetsError(
                    f"demo: ONNX Runtime must equal eager PyTorch, differs by {difference:.2e}"
                )
    return kinds


def _random_batch(encoder: Encoder, size: int, seq_len: int) -> TokenBatch:
    random = torch.Generator().manual_seed(size)
    ids = torch.randint(1000, encoder.vocab_size, (size, seq_len), generator=random)
    return TokenBatch(ids, torch.ones_like(ids), torch.zeros_like(ids))


def _as_dict(batch: TokenBatch) -> dict[str, Tensor]:
    return {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "token_type_ids": batch.token_type_ids,
    }
