"""A stage of a run: its folder, what it depends on, and whether its result is already there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lets.errors import LetsError
from lets.files import sha256_of, sha256_of_json, write_json
from lets.task_data import TaskData
from lets.train.checkpoint import CheckpointStore, read_json


class Stage:
    """One stage's folder; its record is written last and tells that the stage is complete.

    Args:
        folder: Where the stage's files live.
        name: The stage's name, for messages.
        inputs: Everything that the result depends on, as JSON: configuration, fingerprints,
            checksums of earlier results. A result of other inputs does not count.
        record: Name of the file that records inputs, checksums and result.
    """

    def __init__(
        self,
        folder: str | Path,
        name: str,
        inputs: Mapping[str, Any],
        record: str = "result.json",
    ) -> None:
        self.folder, self.name, self.inputs = Path(folder), name, dict(inputs)
        self.record = record
        self._begun = time.perf_counter()
        self.key = sha256_of_json({"stage": name, "inputs": self.inputs})

    @property
    def checkpoints(self) -> CheckpointStore:
        return CheckpointStore(self.folder / "checkpoints", self.key)

    def file(self, name: str) -> Path:
        return self.folder / name

    def result(self) -> dict[str, Any] | None:
        """The stage's result if it is complete, of the same inputs and undamaged; else None."""
        path = self.folder / self.record
        if not path.is_file():
            return None
        found = read_json(path)
        if found.get("key") != self.key:
            return None
        for name, checksum in found["files"].items():
            if not self.file(name).is_file() or sha256_of(self.file(name)) != checksum:
                raise LetsError(
                    f"{self.file(name)}: is missing or differs from what {path} recorded; "
                    f"remove {path} to run the stage again"
                )
        return found["result"]

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


def data_fingerprint(data: TaskData) -> str:
    """Checksum over a task's rows and how they are read."""
    return sha256_of_json(asdict(data))
