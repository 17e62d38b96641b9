"""Tensor files that others made: the header is checked before anything is built from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from lets.errors import LetsError
from lets.files import MAX_JSON_BYTES, parse_json, read_bytes

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

    The header is checked here, offsets included, before the library sees the bytes.
    """
    tensors = sum(info.num_bytes for info in expected.values())
    data = read_bytes(path, 8 + MAX_JSON_BYTES + tensors, follow_links)
    check_header(data, expected, str(path))
    try:
        return load_safetensors(data)
    except SafetensorError as error:
        raise LetsError(f"{path}: is not a valid safetensors file ({error})") from error


def check_header(data: bytes, expected: Mapping[str, TensorInfo], where: str) -> None:
    """Raise unless the header describes `expected`, and the file, byte for byte."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, MAX_JSON_BYTES):
        raise LetsError(
            f"{where}: is truncated or not a safetensors file ({len(data)} bytes, of which the "
            f"header claims {length})"
        )
    header = parse_json(data[8 : 8 + length], f"{where}: header")
    header.pop("__metadata__", None)
    _check_names(set(header), set(expected), where)
    spans = [(*_span(header[name], info, f"{where}: {name}"), name) for name, info in
             expected.items()]  # fmt: skip
    end = 0
    for begin, stop, name in sorted(spans):
        if begin != end:
            raise LetsError(
                f"{where}: {name}: data_offsets must start at {end}, where the tensor before it "
                f"ends, got {begin}"
            )
        end = stop
    if end != len(data) - 8 - length:
        raise LetsError(
            f"{where}: must hold {end} bytes of tensors, got {len(data) - 8 - length}; the file is "
            "truncated or has something appended"
        )


def sha256_of_tensor(tensor: Tensor) -> str:
    """Checksum of the values in memory order."""
    # A copy: a tensor of one entry counts as contiguous whatever its stride, and cannot be viewed.
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().reshape(-1))
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()


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
