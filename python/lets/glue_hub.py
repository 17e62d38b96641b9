"""GLUE tasks from the hub, through `datasets` (needs a network, or its cache)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lets.errors import LetsError
from lets.glue import glue_task, hub_rows, task_data
from lets.tables import Table
from lets.task_data import TaskData

DATASET = "nyu-mll/glue"


def load_glue_hub(name: str, dev_split: str | None = None) -> TaskData:
    """A GLUE task from the hub.

    Args:
        dev_split: Default: validation, of MNLI validation_matched.
    """
    key, task = glue_task(name)
    if dev_split is None:
        dev_split = "validation_matched" if key == "mnli" else "validation"
    train, dev = (
        hub_rows(task, _split(key.replace("-", ""), split)) for split in ("train", dev_split)
    )
    return task_data(key, train, dev)


def _split(config: str, split: str) -> Table:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise LetsError(
            "glue: the hub needs datasets, which is not installed; pip install 'lets-ext[train]', "
            "or give --glue-dir"
        ) from error
    try:
        rows: Any = load_dataset(DATASET, config, split=split)
    except Exception as error:  # datasets raises many kinds for a hub that it cannot reach
        first_line = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise LetsError(
            f"glue: cannot load {config} of {DATASET} from the hub: {first_line}; for files on "
            "this machine give --glue-dir"
        ) from error
    source = f"{DATASET}, {config}, {split}"
    numbered = [(f"{source}, row {i}", dict(row)) for i, row in enumerate(rows)]
    return Table(Path(source), tuple(rows.column_names), numbered)
