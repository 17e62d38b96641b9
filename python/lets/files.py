"""Files and folders of which a reader never sees half, checksums, and JSON without surprises."""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from lets.errors import LetsError

MAX_JSON_BYTES = 16 << 20
MAX_JSON_DEPTH = 32


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


@contextmanager
def regular_file(
    path: Path, max_bytes: int, follow_links: bool = False
) -> Iterator[tuple[BufferedReader, int]]:
    """A file and its size. Links are refused: a stranger's folder may point anywhere."""
    no_follow = 0 if follow_links else getattr(os, "O_NOFOLLOW", 0)
    try:
        if not follow_links and path.is_symlink():
            raise LetsError(f"{path}: must be a regular file, got a link")
        # O_NONBLOCK: a named pipe must not hang the reader before its kind is known.
        handle = os.open(path, os.O_RDONLY | no_follow | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise LetsError(f"{path}: cannot be read ({error.strerror or error})") from error
    info = os.fstat(handle)
    if not stat.S_ISREG(info.st_mode):  # of a folder no file object can be made
        os.close(handle)
        raise LetsError(f"{path}: must be a regular file")
    with os.fdopen(handle, "rb") as file:
        if info.st_size > max_bytes:
            raise LetsError(f"{path}: must be at most {max_bytes} bytes, got {info.st_size}")
        yield file, info.st_size


def read_bytes(path: Path, max_bytes: int, follow_links: bool = False) -> bytes:
    """The bytes of a `regular_file`."""
    with regular_file(path, max_bytes, follow_links) as (file, size):
        return file.read(size)  # not max_bytes: so much would be allocated


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object without repeated keys, NaN or infinity, deep nesting, and broken text."""

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON number")

    try:
        text = data.decode("utf-8-sig")
        value = json.loads(
            text, object_pairs_hook=unique_keys, parse_constant=refuse, parse_float=_finite
        )
        _check_nesting(value)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise LetsError(f"{where}: is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise LetsError(f"{where}: must be a JSON object, got {type(value).__name__}")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")  # 1e999
    return number


def _check_nesting(value: Any) -> None:
    """Refuse what would trip up a later reader that recurses: json.dumps, print."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_JSON_DEPTH):
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else node)
            if isinstance(item, dict | list)
        ]
    if level:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")


def write_json(path: str | Path, value: Any) -> None:
    """Write a JSON file under its final name only when it is complete."""
    write_file(path, json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """One clear error for a disk that is full, a folder that is read-only and their like."""
    try:
        yield
    except OSError as error:
        raise LetsError(
            f"{path}: cannot be written ({error.strerror or error}); what was complete before is "
            "still there, so the same command goes on from it"
        ) from error


def write_file(path: str | Path, data: bytes) -> None:
    """Write bytes under their final name only when they are complete and on the disk."""
    path = Path(path)
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
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
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        try:
            fill(staged)
            for file in staged.rglob("*"):
                sync(file)
            sync(staged)
            if not path.exists():
                os.replace(staged, path)
            elif not _exchange(staged, path):
                _replace_folder(staged, path)
            sync(path.parent)
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder of which no reader may see half, killed or not."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    os.replace(path, old)
    shutil.rmtree(old)


def remove_staged(folder: Path, name: str) -> None:
    """Remove what killed processes left of folders whose name matches; nobody else may write."""
    for left in [*folder.glob(f".{name}.*.tmp"), *folder.glob(f".{name}.*.old")]:
        shutil.rmtree(left, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one step, so that a reader always finds one; False: it cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    at_cwd, exchange = -100, 2
    names = os.fsencode(first.absolute()), os.fsencode(second.absolute())
    return rename is not None and rename(at_cwd, names[0], at_cwd, names[1], exchange) == 0


def _replace_folder(staged: Path, path: Path) -> None:
    """`_exchange` where there is none: for a moment there is neither folder."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    os.replace(path, old)
    os.replace(staged, path)
    shutil.rmtree(old)


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
