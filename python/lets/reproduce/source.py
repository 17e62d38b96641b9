"""What pages are made from: result cells, run folders and task packs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lets.reproduce.cell import load_cells
from lets.reproduce.results import Results, select


@dataclass(frozen=True)
class Source:
    """Paths; nothing is read before a page asks for it.

    Args:
        folder: Of result cells.
        encoder: Whose cells, if the folder holds several encoders'; default: whose are most.
        runs: Output folders of `lets fit`, for searches and masks.
    """

    folder: Path
    encoder: str | None = None
    runs: Sequence[Path] = ()

    @cached_property
    def results(self) -> Results | None:
        """None if there is no cell."""
        if not self.folder.is_dir() or not any(self.folder.glob("*.json")):
            return None
        return select(load_cells(self.folder), self.encoder)
