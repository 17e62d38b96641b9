"""The tensors of a task pack: their names and shapes, from a task and back to one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from lets.delta import MATRICES, SparseDelta
from lets.errors import LetsError
from lets.heads import Head, build_head
from lets.pack_config import PackConfig
from lets.safe_reader import TensorInfo
from lets.task import Task
from lets.task_layer import VECTOR_DELTAS

_PARTS = ("crow_indices", "col_indices", "values")
_DENSE = "weight"  # of a matrix W^f in full
_FLOATS = ("F32", "F16", "BF16")


def task_tensors(task: Task, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a task under their names in the file."""
    tensors: dict[str, Tensor] = {}
    for j in task.policy.live_layers:
        for matrix in MATRICES:
            prefix = f"layers.{j}.{matrix}"
            if task.dense is None:
                tensors |= task.deltas[j][matrix].to_tensors(prefix, dtype)
            else:
                tensors[f"{prefix}.{_DENSE}"] = task.dense[j][matrix].to(dtype)
        for name in VECTOR_DELTAS:
            tensors[f"layers.{j}.{name}"] = task.vectors[j][name].float()
    tensors |= {f"head.{name}": t.float() for name, t in task.head.state_dict().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def check_table(config: PackConfig) -> None:
    """Raise unless the table of tensors is the one of this policy and head."""
    found = {name: info for name, (info, _) in config.tensors.items()}

    def take(name: str, dtypes: Iterable[str], shape: tuple[int, ...] | None) -> TensorInfo:
        if name not in found:
            raise LetsError(f"tensors.{name} is missing")
        info = found.pop(name)
        if info.dtype not in dtypes or info.shape != (info.shape if shape is None else shape):
            wanted = "[nnz]" if shape is None else list(shape)
            raise LetsError(
                f"tensors.{name} must be {' or '.join(dtypes)} {wanted}, "
                f"got {info.dtype} {list(info.shape)}"
            )
        return info

    for name, shape in _dense_shapes(config):
        take(name, ("F32",), shape)
    for j in config.policy.live_layers:
        for matrix, (rows, columns) in _matrix_shapes(config).items():
            prefix = f"layers.{j}.{matrix}"
            if config.dense:
                take(f"{prefix}.{_DENSE}", _FLOATS, (rows, columns))
                continue
            take(f"{prefix}.crow_indices", ("I32",), (rows + 1,))
            nnz = take(f"{prefix}.col_indices", ("U16",), None).shape
            if len(nnz) != 1 or nnz[0] > rows * columns:
                raise LetsError(
                    f"tensors.{prefix}.col_indices must have at most {rows * columns} entries, "
                    f"got {list(nnz)}"
                )
            take(f"{prefix}.values", _FLOATS, nnz)
    if found:
        raise LetsError(f"tensors.{min(found)} is unknown")


def build_task(config: PackConfig, tensors: Mapping[str, Tensor]) -> Task:
    """The task that a checked table's tensors make; raises for what a kernel must not see."""
    _check_finite(tensors)
    live, shapes = config.policy.live_layers, _matrix_shapes(config)
    deltas, dense = {}, {}
    for j in live:
        if config.dense:
            dense[j] = {matrix: tensors[f"layers.{j}.{matrix}.{_DENSE}"] for matrix in shapes}
        else:
            deltas[j] = {
                matrix: SparseDelta.from_tensors(tensors, f"layers.{j}.{matrix}", shape)
                for matrix, shape in shapes.items()
            }
    vectors = {j: {name: tensors[f"layers.{j}.{name}"] for name in VECTOR_DELTAS} for j in live}
    with torch.random.fork_rng(devices=[]):
        head = _new_head(config.head)
    prefix = "head."
    head.load_state_dict(
        {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    )
    return Task(
        config.name, config.policy, deltas, vectors, head.eval(), config.labels,
        config.problem_type, config.metric, config.max_length, config.is_pair,
        dense if config.dense else None,
    )  # fmt: skip


def _matrix_shapes(config: PackConfig) -> dict[str, tuple[int, int]]:
    hidden, inner = config.encoder["hidden_size"], config.encoder["intermediate_size"]
    return {
        "qkv": (3 * hidden, hidden),
        "out": (hidden, hidden),
        "up": (inner, hidden),
        "down": (hidden, inner),
    }


def _vector_shape(config: PackConfig, name: str) -> tuple[int]:
    return (config.encoder["intermediate_size" if name == "up_bias_delta" else "hidden_size"],)


def _dense_shapes(config: PackConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of what is stored in full."""
    for j in config.policy.live_layers:
        for name in VECTOR_DELTAS:
            yield f"layers.{j}.{name}", _vector_shape(config, name)
    yield from _head_shapes(tuple(config.head.items()))


@lru_cache(32)
def _head_shapes(config: tuple[tuple[str, Any], ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    with torch.device("meta"):  # sizes alone: nothing is allocated on the word of a file
        head = _new_head(dict(config))
    return tuple((f"head.{name}", tuple(t.shape)) for name, t in head.state_dict().items())


def _new_head(config: Mapping[str, Any]) -> Head:
    arguments = {name: value for name, value in config.items() if name != "type"}
    return build_head(config["type"], arguments)


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.rsplit(".", 1)[-1] not in _PARTS and not bool(torch.isfinite(tensor).all()):
            raise LetsError(f"{name} must be finite, got NaN or infinity")
