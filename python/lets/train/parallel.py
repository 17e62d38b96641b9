"""One task on several processes, which `accelerate launch` or `torchrun` start.

Every process runs every stage and comes to the same result; they share the rows of each step of the
training loop, and add up their gradients. So nothing but the loop knows of it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist


@contextmanager
def joined(output_dir: str | Path) -> Iterator[tuple[Path, bool]]:
    """Join the other processes, if there are any; yields a folder, and whether it is the real one.

    The first process writes into `output_dir`. The others get a copy of it that nobody keeps: so
    all find the same complete stages and the same checkpoints.
    """
    folder = Path(output_dir)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield folder, True
        return
    dist.init_process_group("gloo")
    try:
        if dist.get_rank() == 0:
            dist.barrier()  # the others have their copies
            yield folder, True
            return
        with tempfile.TemporaryDirectory(prefix="lets-") as temporary:
            copy = Path(temporary) / "run"
            if folder.is_dir():
                shutil.copytree(folder, copy)
            dist.barrier()
            yield copy, False
    finally:
        dist.destroy_process_group()


def is_joined() -> bool:
    """Are there other processes?"""
    return dist.is_initialized()


def own_rows(rows: list[int]) -> list[int]:
    """This process's rows of a batch, of a small one perhaps none."""
    return rows[dist.get_rank() :: dist.get_world_size()]


def add_up(tensors: Iterable[Tensor]) -> None:
    """Sum tensors over the processes, in place."""
    found = list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in found])
    dist.all_reduce(flat)
    for tensor, part in zip(found, flat.split([tensor.numel() for tensor in found])):
        tensor.copy_(part.view_as(tensor))
