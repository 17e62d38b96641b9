"""Tensor files (safetensors) that others made: the header is checked before anything is built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lets.errors import LetsError
from lets.files import MAX_JSON_BYTES, parse_json, regular_file

DTYPES = {
    "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I32": torch.int32, "U16": torch.uint16,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class TensorInfo(NamedTuple):
    """dtype by its safetensors name, and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        size = DTYPES[self.dtype].itemsize
        for length in self.shape:
            size *= length
        return size

    @classmethod
    def of(cls, tensor: Tensor) -> TensorInfo:
        return cls(_NAMES[tensor.dtype], tuple(tensor.shape))


def read_tensors(
    path: Path, expected: Mapping[str, TensorInfo], follow_links: bool = False
) -> dict[str, Tensor]:
    """The tensors of a safetensors file that must hold exactly `expected`.

    Nothing is allocated before the header describes the file byte for byte, and then its tensors
    alone: what is read is at no time in memory twice.
    """
    where, tensors = str(path), {}
    most = 8 + MAX_JSON_BYTES + sum(info.num_bytes for info in expected.values())
    with regular_file(path, most, follow_links) as (file, size):
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, MAX_JSON_BYTES):
            raise LetsError(
                f"{where}: is truncated or not a safetensors file ({size} bytes, of which the "
                f"header claims {length})"
            )
        for name in check_header(file.read(length), size - 8 - length, expected, where):
            info = expected[name]
            tensors[name] = torch.empty(info.shape, dtype=DTYPES[info.dtype], device="cpu")
            if file.readinto(_bytes_of(tensors[name])) != info.num_bytes:
                raise LetsError(f"{where}: {name}: cannot be read; the file became shorter")
    return tensors


def check_header(
    data: bytes, rest: int, expected: Mapping[str, TensorInfo], where: str
) -> list[str]:
    """Names in the file's order; raises unless the header describes `expected`, in `rest` bytes."""
    header = parse_json(data, f"{where}: header")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(type(text) is not str for text in metadata.values()):
        raise LetsError(f"{where}: header: __metadata__ must map names to texts")
    _check_names(set(header), set(expected), where)
    spans = [(*_span(header[name], info, f"{where}: {name}"), name) for name, info in
             expected.items()]  # fmt: skip
    end, names = 0, []
    for begin, stop, name in sorted(spans):
        if begin != end:
            raise LetsError(
                f"{where}: {name}: data_offsets must start at {end}, where the tensor before it "
                f"ends, got {begin}"
            )
        end = stop
        names.append(name)
    if end != rest:
        raise LetsError(
            f"{where}: must hold {end} bytes of tensors, got {rest}; the file is truncated or has "
            "something appended"
        )
    return names


def sha256_of_tensor(tensor: Tensor) -> str:
    """Checksum of the values in memory order."""
    return hashlib.sha256(_bytes_of(tensor.detach())).hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    """The values in memory order; of a contiguous tensor its own memory."""
    flat = tensor.reshape(-1)
    if flat.numel() < 2:  # counts as contiguous whatever its stride, and cannot be viewed
        flat = flat.as_strided((flat.numel(),), (1,))
    memory: memoryview = flat.view(torch.uint8).numpy().data
    return memory


def _check_names(found: set[str], expected: set[str], where: str) -> None:
    if missing := sorted(expected - found):
        raise LetsError(f"{where}: tensor {missing[0]} is missing")
    if unknown := sorted(found - expected):
        raise LetsError(f"{where}: tensor {unknown[0]} is unknown")


def _span(entry: Any, info: TensorInfo, where: str) -> tuple[int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise LetsError(f"{where}: header entry must have dtype, shape and data_offsets alone")
    if entry["dtype"] != info.dtype or entry["shape"] != list(info.shape):
        raise LetsError(
            f"{where}: must be {info.dtype} {list(info.shape)}, "
            f"got {entry['dtype']} {entry['shape']}"
        )
    offsets = entry["data_offsets"]
    sound = isinstance(offsets, list) and len(offsets) == 2 and all(type(o) is int for o in offsets)
    if not sound or offsets[0] < 0 or offsets[1] - offsets[0] != info.num_bytes:
        raise LetsError(f"{where}: data_offsets must span {info.num_bytes} bytes, got {offsets}")
    return offsets[0], offsets[1]
