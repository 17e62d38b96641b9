"""Randomness as a function of where a run is, so a resumed run needs no saved generator state."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(seed: int, *place: str | int) -> int:
    """A 63-bit seed for one place of a run, e.g. (42, "finetune", "step", 17)."""
    text = "/".join(str(part) for part in (seed, *place))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator(seed: int, *place: str | int) -> torch.Generator:
    """A CPU generator that starts at `derive_seed` of the same arguments."""
    return torch.Generator().manual_seed(derive_seed(seed, *place))


def seed_everything(seed: int, *place: str | int) -> None:
    """Set torch's global generators (dropout draws from them) for one place of a run."""
    torch.manual_seed(derive_seed(seed, *place))
