"""From the command line's words to an engine with checked packs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.pack import expand_packs
from lets.run.engine import Engine
from lets.serve.admin import add_checked
from lets.serve.threads import in_passing

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_engine(
    encoder: str,
    packs: Sequence[str],
    mode: str = "auto",
    device: str = "cpu",
    dtype: str = "float32",
    threads: int | None = None,
) -> Engine:
    """An engine whose packs have reproduced their samples."""
    if dtype not in _DTYPES:
        raise LetsError(f"serve: dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    if threads is not None:
        torch.set_num_threads(threads)

    def load() -> Engine:
        loaded = Encoder.from_pretrained(encoder, dtype=_DTYPES[dtype], device=device)
        engine = Engine(loaded, mode=mode)
        for pack in expand_packs(packs):
            add_checked(engine, pack)
        return engine

    return in_passing(load)
