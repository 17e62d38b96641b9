"""Checkpoints of a running stage: tensors in safetensors, the rest in JSON, written as a whole."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lets.errors import LetsError
from lets.files import remove_folder, remove_staged, sha256_of, write_folder, write_json, writing

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """State of a stage after `step` steps; `tensors` by group, e.g. model, optimizer, best."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one stage under one folder; the newest complete one counts.

    Args:
        folder: Where checkpoint-<step> folders live.
        key: Names configuration, data and inputs of the stage; checkpoints of another key are
            not resumed from, they are removed at the first save.
    """

    def __init__(self, folder: str | Path, key: str) -> None:
        self.folder, self.key = Path(folder), key

    def save(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
    ) -> None:
        """Write checkpoint-<step>, then remove the older ones."""

        def fill(staged: Path) -> None:
            files = {}
            for group, named in tensors.items():
                save_tensors(staged / f"{group}.safetensors", named)
                files[group] = sha256_of(staged / f"{group}.safetensors")
            meta = {"format": _FORMAT, "key": self.key, "step": step, "files": files}
            write_json(staged / "state.json", {**meta, "state": dict(state)})

        target = self.folder / f"checkpoint-{step}"
        remove_staged(self.folder, "checkpoint-*")
        write_folder(target, fill)
        for other in self._folders():
            if other != target:
                remove_folder(other)

    def load(self) -> Checkpoint | None:
        """The newest checkpoint of this key, or None."""
        found = self._newest()
        if found is None:
            return None
        folder, meta = found
        try:
            groups, step, state = meta["files"].items(), int(meta["step"]), meta["state"]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LetsError(f"{folder / 'state.json'}: is damaged; remove {folder}") from None
        tensors = {
            group: load_tensors(folder / f"{group}.safetensors", checksum)
            for group, checksum in groups
        }
        return Checkpoint(step, tensors, state)

    def _newest(self) -> tuple[Path, dict[str, Any]] | None:
        """Folder and state.json of the newest checkpoint of this key."""
        for folder in self._folders():
            meta = read_json(folder / "state.json")
            if meta.get("key") == self.key and meta.get("format") == _FORMAT:
                return folder, meta
        return None

    def foreign(self) -> bool:
        """Are there checkpoints, but none of this key?"""
        return bool(self._folders()) and self._newest() is None

    def clear(self) -> None:
        """Remove every checkpoint: the stage is complete."""
        for folder in self._folders():
            remove_folder(folder)
        self.tidy()

    def tidy(self) -> None:
        """Remove what a process left that was killed while it wrote or cleared."""
        remove_staged(self.folder, "checkpoint-*")
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _folders(self) -> list[Path]:
        """Checkpoint folders, newest first."""
        if not self.folder.is_dir():
            return []
        found = [
            (int(match[1]), path)
            for path in self.folder.iterdir()
            if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and path.is_dir()
        ]
        return [path for _, path in sorted(found, reverse=True)]


def save_tensors(path: Path, named: Mapping[str, Tensor]) -> None:
    """Write named tensors; safetensors wants them contiguous and unshared."""
    copies = {n: t.detach().cpu().contiguous().clone() for n, t in named.items()}
    with writing(path):
        try:
            save_file(copies, path)
        except SafetensorError as error:  # its way of saying OSError
            raise OSError(str(error)) from error


def load_tensors(path: Path, checksum: str | None = None) -> dict[str, Tensor]:
    """Read named tensors; the error names the file."""
    try:
        if checksum is not None and sha256_of(path) != checksum:
            raise LetsError(f"{path}: checksum differs from the recorded one; remove its folder")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise LetsError(f"{path}: cannot be read ({error})") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; the error names the file."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LetsError(f"{path}: cannot be read ({error})") from None
    if not isinstance(value, dict):
        raise LetsError(f"{path}: must be a JSON object, got {type(value).__name__}")
    return value
