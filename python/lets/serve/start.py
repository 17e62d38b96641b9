"""From the command line's words to an engine with checked packs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lets.pack import expand_packs
from lets.precision import named_dtype
from lets.run.engine import Engine
from lets.serve.admin import add_checked
from lets.serve.threads import in_passing


def load_engine(
    encoder: str,
    packs: Sequence[str],
    mode: str = "auto",
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
    quantization: str | None = None,
) -> Engine:
    """An engine whose packs have reproduced their samples."""
    precision = named_dtype(dtype, "serve")
    if threads is not None:
        torch.set_num_threads(threads)

    def load() -> Engine:
        engine = Engine.from_pretrained(
            encoder, (), dtype=precision, device=device, mode=mode, quantization=quantization
        )
        for pack in expand_packs(packs):
            add_checked(engine, pack)
        return engine

    return in_passing(load)
