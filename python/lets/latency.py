"""Wall-clock comparison of answering callables: interleaved runs, medians, dense baselines."""

from __future__ import annotations

import importlib.util
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

Forward = Callable[[dict[str, Tensor]], Tensor]

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def interleaved_medians(
    candidates: Mapping[str, Callable[[], object]], repeats: int = 15, warmup: int = 3
) -> dict[str, float]:
    """Median seconds of each candidate; one run of each in turn, so that drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(warmup + repeats):
        for name, run in candidates.items():
            begin = time.perf_counter()
            run()
            if turn >= warmup:
                times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def eager_forward(model: nn.Module) -> Forward:
    """A transformers classifier as it is: eager PyTorch with SDPA. Returns logits [B, C]."""
    model = model.eval()

    def forward(batch: dict[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            return model(**batch).logits

    return forward


def onnx_runtime_available() -> bool:
    """Whether the packages of the `bench` extra that the ONNX Runtime baseline needs are there."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


def onnx_runtime_forward(
    model: nn.Module, path: Path, threads: int, export: bool = True
) -> Forward:
    """The same classifier in ONNX Runtime fp32, the dense baseline that a CPU user would choose.

    Args:
        path: The exported graph.
        export: Write it; False reads one that is there.
        threads: Size of the session's pool. Its spinning is off: spinning threads would slow
            down whatever is timed in between.

    Returns:
        A callable from a token batch (any B, S) to logits [B, C].
    """
    import onnxruntime

    if export:
        _export(model, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(batch: dict[str, Tensor]) -> Tensor:
        feed = {name: batch[name].numpy() for name in _INPUTS}
        return torch.from_numpy(session.run(None, feed)[0])

    return forward


def _export(model: nn.Module, path: Path) -> None:
    example = {name: torch.ones(2, 7, dtype=torch.long) for name in _INPUTS}
    dynamic = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, we do not
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _LogitsOnly(model.eval()),
            tuple(example.values()),
            str(path),
            dynamo=True,
            dynamic_shapes=(dynamic,) * len(example),
            external_data=False,
            verbose=False,
        )


class _LogitsOnly(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).logits
