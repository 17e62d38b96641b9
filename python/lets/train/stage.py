"""A stage of a run: its folder, what it depends on, and whether its result is already there."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lets.errors import LetsError
from lets.files import sha256_of, sha256_of_json, write_json
from lets.task_data import TaskData
from lets.train.checkpoint import CheckpointStore, read_json

_KEEP_OR_REPLACE = "choose another --output-dir, or give --overwrite to replace it"


class Stage:
    """One stage's folder; its record is written last and tells that the stage is complete.

    Args:
        folder: Where the stage's files live.
        name: The stage's name, for messages.
        inputs: Everything that the result depends on, as JSON: configuration, fingerprints,
            checksums of earlier results. A result of other inputs does not count.
        record: Name of the file that records inputs, checksums and result.
        overwrite: Results and checkpoints of other inputs may be replaced; otherwise they are an
            error, because nobody can tell that the work in them is not wanted any more.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str,
        inputs: Mapping[str, Any],
        record: str = "result.json",
        overwrite: bool = False,
    ) -> None:
        self.folder, self.name, self.inputs = Path(folder), name, dict(inputs)
        self.record, self.overwrite = record, overwrite
        self._begun = time.perf_counter()
        self.key = sha256_of_json({"stage": name, "inputs": self.inputs})

    @property
    def checkpoints(self) -> CheckpointStore:
        return CheckpointStore(self.folder / "checkpoints", self.key)

    def file(self, name: str) -> Path:
        return self.folder / name

    def result(self, *names: str) -> dict[str, Any] | None:
        """The stage's result, with at least these entries, if it is complete; else None.

        Raises:
            LetsError: there is a damaged result, or one or a checkpoint of other inputs, which may
                not be overwritten.
        """
        path = self.folder / self.record
        found = self._read(path, {"wall_seconds", *names})
        if found is None or found["key"] != self.key:
            if found is not None and not self.overwrite:
                raise LetsError(
                    f"{path}: is the result of {found.get('stage', 'another stage')} with other "
                    f"inputs ({_differences(found.get('inputs'), self.inputs)}); {_KEEP_OR_REPLACE}"
                )
            if not self.overwrite and self.checkpoints.foreign():
                raise LetsError(
                    f"{self.checkpoints.folder}: holds an interrupted run with other inputs; "
                    f"{_KEEP_OR_REPLACE}"
                )
            return None
        for name, checksum in found["files"].items():
            if not self.file(name).is_file() or sha256_of(self.file(name)) != checksum:
                if self.overwrite:
                    return None
                raise LetsError(
                    f"{self.file(name)}: is missing or differs from what {path} recorded; "
                    f"remove {path}, or give --overwrite, to run the stage again"
                )
        self.checkpoints.tidy()
        return found["result"]

    def _read(self, path: Path, names: set[str]) -> dict[str, Any] | None:
        """The record; None without one. A damaged one counts as none if it may be replaced."""
        if not path.is_file():
            return None
        try:
            found = read_json(path)
            parts = {"key": str, "files": dict, "result": dict}
            for part, kind in parts.items():
                if not isinstance(found.get(part), kind):
                    raise LetsError(f"{path}: lacks {part}")
            if found["key"] == self.key and (missing := names - set(found["result"])):
                raise LetsError(f"{path}: lacks result.{min(missing)}")
        except LetsError as error:
            if self.overwrite:
                return None
            raise LetsError(
                f"{error}: the file is damaged; remove it, or give --overwrite, to run {self.name} "
                "again"
            ) from None
        return found

    @staticmethod
    def checksum_of(path: Path) -> str:
        """Checksum of an earlier stage's file; the error names a file that is not there."""
        if not path.is_file():
            raise LetsError(f"{path}: file not found; run the stage that writes it first")
        return sha256_of(path)

    def complete(self, result: Mapping[str, Any], files: list[str]) -> dict[str, Any]:
        """Record the result and its files, and drop the checkpoints."""
        result = {**result, "wall_seconds": round(time.perf_counter() - self._begun, 3)}
        document = {
            "stage": self.name,
            "key": self.key,
            "inputs": self.inputs,
            "files": {name: sha256_of(self.file(name)) for name in files},
            "result": result,
        }
        write_json(self.folder / self.record, document)
        self.checkpoints.clear()
        return result


def _differences(old: Any, new: Mapping[str, Any]) -> str:
    """Where two stages' inputs differ, for a message: the first few, by name."""
    before, after = _flat(old if isinstance(old, Mapping) else {}), _flat(new)
    names = [n for n in {**before, **after} if before.get(n) != after.get(n)]
    shown = [f"{n} {_short(before.get(n))} -> {_short(after.get(n))}" for n in names[:3]]
    return ", ".join(shown) + (f", {len(names) - 3} more" if len(names) > 3 else "")


def _flat(inputs: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            out |= {f"{name}.{inner}": v for inner, v in _flat(value).items()}
        else:
            out[name] = value
    return out


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 16 else f"{text[:13]}..."


def data_fingerprint(data: TaskData) -> str:
    """Checksum over a task's rows and how they are read."""
    return sha256_of_json(asdict(data))
