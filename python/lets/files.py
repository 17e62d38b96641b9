"""Files and folders of which a reader never sees half, checksums, and JSON without surprises."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def sha256_of(path: str | Path) -> str:
    """Checksum of a file's bytes, hexadecimal."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """Checksum of a JSON value that does not depend on key order or spacing."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` of a JSON reader that lets no key occur twice."""
    out = dict(pairs)
    if len(out) < len(pairs):
        twice = next(k for i, (k, _) in enumerate(pairs) if k in dict(pairs[:i]))
        raise ValueError(f"key {twice!r} occurs twice")
    return out


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file under its final name only when it is complete."""
    write_file(path, json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def write_file(path: str | Path, data: bytes) -> None:
    """Write bytes under their final name only when they are complete and on the disk."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(staged, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def write_folder(path: str | Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into a staged folder, then put it in place of `path` as a whole."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        fill(staged)
        for file in staged.rglob("*"):
            sync(file)
        sync(staged)
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            os.replace(path, old)
            os.replace(staged, path)
            shutil.rmtree(old)
        else:
            os.replace(staged, path)
        sync(path.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
