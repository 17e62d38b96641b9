"""ONNX files: one graph for an encoder and its tasks, with tokenizer and labels beside it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.export.graph import TasksGraph
from lets.files import write_folder, write_json
from lets.task import Task

MODEL, TASKS = "model.onnx", "lets_tasks.json"
_PACKAGES = ("onnx", "onnxscript")


def export_onnx(encoder: Encoder, tasks: Sequence[Task], folder: str | Path) -> Path:
    """Write <folder>/model.onnx, the tokenizer's files and lets_tasks.json.

    The graph takes input_ids, attention_mask and, where the encoder knows them, token_type_ids
    (int64 [B, S], right-padded, any B and S), and gives each task's logits under its name.

    Raises:
        LetsError: no task, a package is missing, or weights are not float32 on a CPU.
    """
    folder = Path(folder)
    if not tasks:
        raise LetsError("export: there must be at least one task, got none")
    if missing := [name for name in _PACKAGES if importlib.util.find_spec(name) is None]:
        raise LetsError(f"export: needs {', '.join(missing)}; pip install 'lets-ext[onnx]'")
    if encoder.dtype is not torch.float32 or encoder.device.type != "cpu":
        raise LetsError(
            f"export: the encoder must be float32 on a CPU, got {encoder.dtype} on {encoder.device}"
        )
    if folder.exists() and not (folder / TASKS).is_file() and any(folder.iterdir()):
        raise LetsError(f"{folder}: holds other files than an export; choose another folder")
    names = [task.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise LetsError(f"export: tasks must have different names, got {twice[0]} more than once")
    inputs = ["input_ids", "attention_mask"] + ["token_type_ids"] * (encoder.type_vocab_size > 0)
    description = {
        "inputs": inputs,
        "encoder": {"source": encoder.source, "fingerprint": encoder.fingerprint},
        "tasks": {
            task.name: {
                "output": task.name,
                "labels": list(task.labels),
                "problem_type": task.problem_type,
                "max_length": task.max_length,
                "is_pair": task.is_pair,
            }
            for task in tasks
        },
    }

    def fill(staged: Path) -> None:
        write_graph(TasksGraph(encoder, tasks), staged / MODEL, inputs, names)
        encoder.tokenizer.save_pretrained(staged)
        write_json(staged / TASKS, description)

    write_folder(folder, fill)
    return folder


def write_graph(
    module: nn.Module, path: Path, inputs: Sequence[str], outputs: Sequence[str] | None = None
) -> None:
    """Write a module of int64 [B, S] inputs, B and S free; data beside it from 2 GB on."""
    example = [torch.ones(2, 7, dtype=torch.long) for _ in inputs]
    dynamic = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    with errors_only(), torch.no_grad():
        torch.onnx.export(
            module.eval(),
            tuple(example),
            str(path),
            input_names=list(inputs),
            output_names=None if outputs is None else list(outputs),
            dynamo=True,
            dynamic_shapes=(dynamic,) * len(example),
            external_data=size >= 2**31,
            verbose=False,
        )


@contextlib.contextmanager
def errors_only() -> Iterator[None]:
    """Exporter and quantizer report packages that are not needed and steps that are not taken."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", None)]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


def run_onnx(session: Any, batch: Any, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Logits by task of a TokenBatch, from an onnxruntime session."""
    feed = {node.name: getattr(batch, node.name).numpy() for node in session.get_inputs()}
    return dict(zip(names, map(torch.from_numpy, session.run(list(names), feed))))
