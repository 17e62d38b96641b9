"""ONNX Runtime on a CPU, fp32 and int8: what a CPU user would choose."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lets.bench.baselines.base import Dense, Forward, Inputs, Sequential
from lets.export.onnx import errors_only, write_graph
from lets.precision import INT8_TOLERANCE

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class OrtFp32(Sequential):
    """One exported graph and a session per model, each with its own copy of the weights."""

    def __init__(self, dense: Dense, models: int) -> None:
        super().__init__(dense, models)
        path = self.graph()
        self.forwards = [session_forward(path, dense.threads) for _ in range(models)]

    @classmethod
    def unavailable(cls, dense: Dense) -> str | None:
        if not onnx_runtime_available():
            return "needs onnx, onnxscript and onnxruntime (the bench extra)"
        if dense.device.type != "cpu" or dense.dtype is not torch.float32:
            return "is measured on a CPU beside fp32 alone"
        return None

    def graph(self) -> Path:
        path = self.dense.folder / "fp32.onnx"
        if not path.exists():
            export(self.dense.model, path)
        return path


class OrtInt8(OrtFp32):
    """Dynamic quantization: int8 weights, activations quantized on the way."""

    tolerance = INT8_TOLERANCE

    def graph(self) -> Path:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        path = self.dense.folder / "int8.onnx"
        if not path.exists():
            graph = onnx.load(super().graph())
            # The exporter leaves shapes of weights as they were before it transposed them.
            del graph.graph.value_info[:]
            with errors_only():
                quantize_dynamic(graph, path, weight_type=QuantType.QInt8)
        return path


def onnx_runtime_available() -> bool:
    """Whether the packages of the `bench` extra that ONNX Runtime takes are there."""
    return all(importlib.util.find_spec(name) for name in _PACKAGES)


def session_forward(path: Path, threads: int) -> Forward:
    """A session of its own: token batch (any B, S) to logits [B, C].

    Its pool has as many threads as torch and does not spin: spinning threads would slow down
    whatever is timed in between.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(inputs: Inputs) -> Tensor:
        feed = {name: inputs[name].numpy() for name in _INPUTS}
        return torch.from_numpy(session.run(None, feed)[0])

    return forward


def export(model: nn.Module, path: Path) -> None:
    """Write a classifier's graph with free batch and length."""
    with _written_out_attention(model):
        write_graph(_LogitsOnly(model), path, _INPUTS)


@contextlib.contextmanager
def _written_out_attention(model: Any) -> Iterator[None]:
    """Exported SDPA guards every softmax against rows without keys, a third more nodes."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


class _LogitsOnly(nn.Module):
    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).logits
