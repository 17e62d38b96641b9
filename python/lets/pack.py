"""Task packs: a task as a folder of JSON and safetensors, validated as a whole before it is used.

lets_config.json         what the task is; checksums of every tensor and of itself; samples
lets_delta.safetensors   deltas, biases, LayerNorms, head
README.md                model card
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from lets.delta import MATRICES, SparseDelta
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.files import write_folder, write_json
from lets.heads import LayerwiseHead
from lets.model_card import model_card
from lets.pack_config import PackConfig, Sample, check_task_name
from lets.safe_reader import (
    MAX_JSON_BYTES,
    TensorInfo,
    parse_json,
    read_bytes,
    read_tensors,
    sha256_of_tensor,
)
from lets.task import Task
from lets.task_layer import VECTOR_DELTAS

CONFIG, DELTA, CARD = "lets_config.json", "lets_delta.safetensors", "README.md"
_PARTS = ("crow_indices", "col_indices", "values")
_SAMPLES = (
    "The first sample is a short sentence.",
    "Another one, with a few more words than that!",
)


def save_pack(
    path: str | Path,
    task: Task,
    encoder: Encoder,
    samples: Sequence[str] | Sequence[tuple[str, str]] = (),
    dtype: torch.dtype = torch.float32,
    results: Mapping[str, float] | None = None,
) -> Path:
    """Write a task pack, as a whole or not at all; an older pack at `path` is replaced.

    Args:
        encoder: The encoder that the task was trained on.
        samples: Inputs to store with their logits, for `lets validate`; default: two sentences.
        dtype: Of the stored delta values.
        results: Scores to store for people, e.g. {"dev accuracy": 0.93}.
    """
    path = Path(path)
    check_task_name(task.name)
    if path.exists() and not is_pack(path) and not (path.is_dir() and not any(path.iterdir())):
        raise LetsError(f"{path}: exists and is no task pack; remove it or choose another folder")
    tensors = task_tensors(task, dtype)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise LetsError(f"{task.name}: {name} must be finite in {dtype}, got NaN or infinity")
    config = PackConfig(
        name=task.name,
        encoder={
            "source": encoder.source,
            "revision": encoder.revision,
            "fingerprint": encoder.fingerprint,
            **_sizes(encoder),
        },
        policy=task.policy,
        head={"type": "layerwise", **task.head.config()},
        labels=tuple(task.labels),
        problem_type=task.problem_type,
        metric=task.metric,
        max_length=task.max_length,
        is_pair=task.is_pair,
        tensors={n: (TensorInfo.of(t), sha256_of_tensor(t)) for n, t in tensors.items()},
        samples=(),
        results=dict(results or {}),
    )
    stored = _build_task(config, tensors)  # what a reader will get, rounded and checked
    inputs = list(samples) or [(text, text) if task.is_pair else text for text in _SAMPLES]
    config = PackConfig(**{**vars(config), "samples": _samples(stored, encoder, inputs)})
    PackConfig.from_dict(config.to_dict())

    def fill(folder: Path) -> None:
        (folder / DELTA).write_bytes(save_safetensors(tensors, metadata={"format": "pt"}))
        write_json(folder / CONFIG, config.to_dict())
        (folder / CARD).write_text(model_card(config, encoder.shape), encoding="utf-8")

    write_folder(path, fill)
    return path


def load_pack(path: str | Path, encoder: Encoder | None = None) -> Task:
    """Read and validate a pack; every kernel may trust what comes out.

    Args:
        path: Folder, or a hub id.
        encoder: The encoder it is for; without one the match is not checked.

    Raises:
        LetsError: names file, tensor, row and rule.
    """
    return read_pack(path, encoder)[1]


def read_pack(path: str | Path, encoder: Encoder | None = None) -> tuple[PackConfig, Task]:
    """`load_pack`, with the configuration."""
    folder, linked = resolve_pack(path)
    config = _read_config(folder, linked)
    if encoder is not None:
        _check_encoder(config, encoder, folder)
    file = folder / DELTA
    try:
        _check_names(config)
        expected = {name: info for name, (info, _) in config.tensors.items()}
    except LetsError as error:
        raise LetsError(f"{folder / CONFIG}: {error}") from error
    tensors = read_tensors(file, expected, follow_links=linked)
    for name, (_, checksum) in config.tensors.items():
        if sha256_of_tensor(tensors[name]) != checksum:
            raise LetsError(
                f"{file}: {name}: checksum differs from {CONFIG}'s; the file is damaged"
            )
    try:
        return config, _build_task(config, tensors)
    except LetsError as error:
        raise LetsError(f"{file}: {error}") from error


def is_pack(path: str | Path) -> bool:
    """Does the folder hold a task pack, be it damaged?"""
    path = Path(path)
    return path.is_dir() and (path / CONFIG).is_file()


def resolve_pack(path: str | Path) -> tuple[Path, bool]:
    """Local folder of a pack, and whether its files are links of the hub's cache."""
    folder = Path(path)
    if folder.is_dir():
        return folder, False
    parts = str(path).split("/")
    if folder.exists() or len(parts) != 2 or not all(parts) or parts[0] in (".", ".."):
        raise LetsError(f"{path}: must be the folder of a task pack or a hub id (owner/name)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path), allow_patterns=[CONFIG, DELTA, CARD])), True
    except Exception as error:  # network, permissions, unknown name: many classes
        reason = str(error).strip().split("\n")[0]
        raise LetsError(f"{path}: is no folder, and not found on the hub ({reason})") from error


def task_tensors(task: Task, dtype: torch.dtype) -> dict[str, Tensor]:
    """All tensors of a task under their names in the file."""
    tensors: dict[str, Tensor] = {}
    for j in sorted(task.deltas):
        for matrix in MATRICES:
            tensors |= task.deltas[j][matrix].to_tensors(f"layers.{j}.{matrix}", dtype)
        for name in VECTOR_DELTAS:
            tensors[f"layers.{j}.{name}"] = task.vectors[j][name].float()
    tensors |= {f"head.{name}": t.float() for name, t in task.head.state_dict().items()}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def sample_logits(task: Task, encoder: Encoder, inputs: Sequence[Any]) -> Tensor:
    """Logits of inputs, one by one, as packs store them. [n, C]"""
    model = task.to_model(encoder)
    with torch.no_grad():
        rows = [model(encoder.tokenize([text], task.max_length)) for text in inputs]
    return torch.cat(rows).float().cpu()


def _samples(task: Task, encoder: Encoder, inputs: Sequence[Any]) -> tuple[Sample, ...]:
    logits = sample_logits(task, encoder, inputs).tolist()
    pairs = ((text, None) if isinstance(text, str) else text for text in inputs)
    return tuple(Sample(first, second, tuple(row)) for (first, second), row in zip(pairs, logits))


def _read_config(folder: Path, linked: bool) -> PackConfig:
    file = folder / CONFIG
    data = parse_json(read_bytes(file, MAX_JSON_BYTES, linked), str(file))
    try:
        return PackConfig.from_dict(data)
    except LetsError as error:
        raise LetsError(f"{file}: {error}") from error


def _sizes(encoder: Encoder) -> dict[str, int]:
    names = ("num_layers", "hidden_size", "num_heads", "intermediate_size")
    return {name: getattr(encoder.shape, name) for name in names}


def _check_encoder(config: PackConfig, encoder: Encoder, folder: Path) -> None:
    wanted = config.encoder
    sizes = {name: wanted[name] for name in _sizes(encoder)}
    if wanted["fingerprint"] != encoder.fingerprint or sizes != _sizes(encoder):
        raise LetsError(
            f"{folder / CONFIG}: encoder: the pack is for {wanted['source']} (fingerprint "
            f"{wanted['fingerprint'][:12]}), got {encoder.source} ({encoder.fingerprint[:12]}); "
            "load the encoder that it was trained on"
        )
    if config.max_length > encoder.max_length:
        raise LetsError(
            f"{folder / CONFIG}: max_length must be at most {encoder.max_length}, "
            f"got {config.max_length}"
        )


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
    with torch.device("meta"):  # sizes alone: nothing is allocated on the word of a file
        head = LayerwiseHead(**_head_arguments(config))
    for name, tensor in head.state_dict().items():
        yield f"head.{name}", tuple(tensor.shape)


def _check_names(config: PackConfig) -> None:
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
            take(f"{prefix}.crow_indices", ("I32",), (rows + 1,))
            nnz = take(f"{prefix}.col_indices", ("U16",), None).shape
            if len(nnz) != 1 or nnz[0] > rows * columns:
                raise LetsError(
                    f"tensors.{prefix}.col_indices must have at most {rows * columns} entries, "
                    f"got {list(nnz)}"
                )
            take(f"{prefix}.values", ("F32", "F16", "BF16"), nnz)
    if found:
        raise LetsError(f"tensors.{min(found)} is unknown")


def _head_arguments(config: PackConfig) -> dict[str, Any]:
    return {name: value for name, value in config.head.items() if name != "type"}


def _build_task(config: PackConfig, tensors: Mapping[str, Tensor]) -> Task:
    _check_finite(tensors)
    deltas = {
        j: {
            matrix: SparseDelta.from_tensors(tensors, f"layers.{j}.{matrix}", shape)
            for matrix, shape in _matrix_shapes(config).items()
        }
        for j in config.policy.live_layers
    }
    vectors = {
        j: {name: tensors[f"layers.{j}.{name}"] for name in VECTOR_DELTAS}
        for j in config.policy.live_layers
    }
    with torch.random.fork_rng(devices=[]):
        head = LayerwiseHead(**_head_arguments(config))
    prefix = "head."
    head.load_state_dict(
        {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    )
    return Task(
        config.name, config.policy, deltas, vectors, head.eval(), config.labels,
        config.problem_type, config.metric, config.max_length, config.is_pair,
    )  # fmt: skip


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.rsplit(".", 1)[-1] not in _PARTS and not bool(torch.isfinite(tensor).all()):
            raise LetsError(f"{name} must be finite, got NaN or infinity")
