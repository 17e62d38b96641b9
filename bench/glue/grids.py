"""What the grids hold: tasks, systems, seeds and sizes, in the order of what is asked first."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grid:
    """A grid of cells: every system on every task with every seed.

    Args:
        train_rows: At most so many rows are learnt from; None: all of them.
    """

    tasks: tuple[str, ...]
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    recipe: str
    train_rows: int | None


SYSTEMS = ("full", "lets-pc", "lets-p", "lets-c", "freeze-3", "lets-g2", "bitfit", "append-1")

GRIDS = {
    # MiniLM-L6 on a CPU: minutes a cell.
    "small": Grid(("rte", "mrpc", "cola", "sts-b"), SYSTEMS, (0, 1, 2), "small", 2500),
    # The paper's own: BERT on all of GLUE, on a GPU.
    "full": Grid(
        ("rte", "mrpc", "cola", "sts-b", "sst-2", "qnli", "mnli", "qqp"),
        (*SYSTEMS, "adapters", "diff-pruning", "diff-pruning-structured", "lora", "shira"),
        (0, 1, 2),
        "paper",
        None,
    ),
}
