"""What the grids hold: tasks, systems, seeds and sizes, in the order of what is asked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A grid of cells: every system on every task with every seed.

    Args:
        train_rows: At most so many rows of a task are learnt from; not named: all of them.
    """

    tasks: tuple[str, ...]
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: str
    train_rows: Mapping[str, int]


SYSTEMS = ("full", "lets-pc", "lets-p", "lets-c", "freeze-3", "lets-g2", "bitfit", "append-1")

# From "every layer reads x^p", and the [CLS] stream at the same cost, to one chain of all of
# MiniLM's layers; policies given and searched, alone and taught by full fine-tuning.
_GIVEN = ("lets-d1", "lets-s1", "lets-d2", "lets-s2", "lets-d3", "lets-s3", "lets-d4", "lets-d6")
FRONT = tuple(
    name + taught
    for name in (*_GIVEN, "lets-pc-b4", "lets-pc", "lets-pc-stream")
    for taught in ("", "-distill")
)

# Rows of RTE and MRPC are five times as long as CoLA's.
_SMALL_ROWS = {"rte": 1250, "mrpc": 1250, "cola": 2500, "sts-b": 1500}

GRIDS = {
    # MiniLM-L6 on a CPU: minutes a cell.
    "small": Grid(tuple(_SMALL_ROWS), SYSTEMS, (0, 1, 2), "small", _SMALL_ROWS),
    # Score against operations, from 1% on (`lets reproduce front`).
    "front": Grid(tuple(_SMALL_ROWS), ("full", *FRONT), (0, 1, 2), "small", _SMALL_ROWS),
    # The paper's own: BERT on all of GLUE, on a GPU.
    "full": Grid(
        ("rte", "mrpc", "cola", "sts-b", "sst-2", "qnli", "mnli", "qqp"),
        (*SYSTEMS, "adapters", "diff-pruning", "diff-pruning-structured", "lora", "shira"),
        (0, 1, 2),
        "paper",
        {},
    ),
}
