"""Task packs: a task as a folder of JSON and safetensors, validated as a whole before it is used.

lets_config.json         what the task is; checksums of every tensor and of itself; samples
lets_delta.safetensors   deltas (of LeTS-(c): matrices in full), biases, LayerNorms, head
README.md                model card
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.files import MAX_JSON_BYTES, parse_json, read_bytes, write_folder, write_json
from lets.model_card import model_card
from lets.pack_config import PackConfig, Sample, check_samples, check_task_name
from lets.pack_tensors import build_task, check_table, task_tensors
from lets.safe_reader import TensorInfo, read_tensors, sha256_of_tensor
from lets.task import Task

CONFIG, DELTA, CARD = "lets_config.json", "lets_delta.safetensors", "README.md"
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
            At most 100, of at most 10,000 characters each.
        dtype: Of the stored delta values, or matrices.
        results: Scores to store for people, e.g. {"dev accuracy": 0.93}.
    """
    path = Path(path)
    if path.is_symlink():
        path = path.resolve()  # the link stays; what it points to is replaced
    check_task_name(task.name)
    check_target(path)
    check_samples(samples)
    encoder.check_exact(task.name)
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
            "tokenizer": encoder.tokenizer_fingerprint,
            **_sizes(encoder),
        },
        policy=task.policy,
        head={"type": task.head.kind, **task.head.config()},
        labels=tuple(task.labels),
        problem_type=task.problem_type,
        metric=task.metric,
        max_length=task.max_length,
        is_pair=task.is_pair,
        tensors={n: (TensorInfo.of(t), sha256_of_tensor(t)) for n, t in tensors.items()},
        samples=(),
        results=dict(results or {}),
        dense=task.dense is not None,
    )
    stored = build_task(config, tensors)  # what a reader will get, rounded and checked
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
    config = read_config(folder, linked)
    if encoder is not None:
        _check_encoder(config, encoder, folder)
    return config, read_task(folder, config, linked)


def read_config(folder: Path, linked: bool = False) -> PackConfig:
    """What a pack's configuration says, checked, its table of tensors too."""
    file = folder / CONFIG
    data = parse_json(read_bytes(file, MAX_JSON_BYTES, linked), str(file))
    try:
        config = PackConfig.from_dict(data)
        check_table(config)
    except LetsError as error:
        raise LetsError(f"{file}: {error}") from error
    return config


def read_task(folder: Path, config: PackConfig, linked: bool = False) -> Task:
    """The task whose tensors a checked configuration names."""
    file = folder / DELTA
    expected = {name: info for name, (info, _) in config.tensors.items()}
    tensors = read_tensors(file, expected, follow_links=linked)
    for name, (_, checksum) in config.tensors.items():
        if sha256_of_tensor(tensors[name]) != checksum:
            raise LetsError(
                f"{file}: {name}: checksum differs from {CONFIG}'s; the file is damaged"
            )
    try:
        return build_task(config, tensors)
    except LetsError as error:
        raise LetsError(f"{file}: {error}") from error


def is_pack(path: str | Path) -> bool:
    """Does the folder hold a task pack, be it damaged?"""
    path = Path(path)
    return path.is_dir() and (path / CONFIG).is_file()


def check_target(path: str | Path) -> None:
    """Raise if something else than a pack or an empty folder is where a pack is to be."""
    path = Path(path)
    if path.exists() and not is_pack(path) and not (path.is_dir() and not any(path.iterdir())):
        raise LetsError(f"{path}: exists and is no task pack; remove it or choose another folder")


def expand_packs(packs: Sequence[str | Path]) -> list[str]:
    """Packs and hub ids as they are; a folder that is no pack stands for the packs in it."""
    found: list[str] = []
    for name in packs:
        folder = Path(name)
        if not folder.is_dir() or is_pack(folder):
            found.append(str(name))
            continue
        inside = sorted(str(child) for child in folder.iterdir() if is_pack(child))
        if not inside:
            raise LetsError(f"{name}: must be a task pack or a folder of packs, holds neither")
        found += inside
    return found


def resolve_pack(path: str | Path) -> tuple[Path, bool]:
    """Local folder of a pack, and whether its files are links of the hub's cache."""
    folder = Path(path)
    try:
        if folder.is_dir():
            return folder, False
        exists = folder.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise LetsError(f"{path!s:.200}: cannot be read ({error.strerror or error})") from error
    parts = str(path).split("/")
    if exists or len(parts) != 2 or not all(parts) or parts[0] in (".", ".."):
        raise LetsError(f"{path}: must be the folder of a task pack or a hub id (owner/name)")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(path), allow_patterns=[CONFIG, DELTA, CARD])), True
    except Exception as error:  # network, permissions, unknown name: many classes
        reason = str(error).strip().split("\n")[0]
        raise LetsError(f"{path}: is no folder, and not found on the hub ({reason})") from error


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
    if wanted["tokenizer"] != encoder.tokenizer_fingerprint:
        raise LetsError(
            f"{folder / CONFIG}: encoder: the tokenizer of {encoder.source} must be the one that "
            "the pack was trained with, but its vocabulary or its rules differ"
        )
    if config.max_length > encoder.max_length:
        raise LetsError(
            f"{folder / CONFIG}: max_length must be at most {encoder.max_length}, "
            f"got {config.max_length}"
        )
