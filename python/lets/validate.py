"""What `lets validate` finds out about a task pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.pack import CONFIG, read_pack, resolve_pack, sample_logits

_TOLERANCE = 1e-4


def validate_pack(path: str | Path, encoder: Encoder | None = None) -> dict[str, Any]:
    """Check a pack; with its encoder also that its sample inputs still give their logits.

    Raises:
        LetsError: names what is wrong.
    """
    config, task = read_pack(path, encoder)
    report: dict[str, Any] = {
        "pack": str(path),
        "valid": True,
        "name": config.name,
        "encoder": config.encoder,
        "policy": config.policy.to_dict(),
        "live_layers": len(config.policy.live_layers),
        "labels": list(config.labels),
        "problem_type": config.problem_type,
        "max_length": config.max_length,
        "is_pair": config.is_pair,
        "non_zeros": task.nnz,
        "tensors": len(config.tensors),
        "bytes": sum(info.num_bytes for info, _ in config.tensors.values()),
        "samples": len(config.samples),
        "samples_checked": 0,
        "max_difference": None,
    }
    if encoder is not None and config.samples:
        found = sample_logits(task, encoder, [sample.input for sample in config.samples])
        stored = torch.tensor([sample.logits for sample in config.samples])
        difference = (found - stored).abs()
        allowed = _TOLERANCE * (1 + stored.abs())
        worst = difference.amax(1)
        bad = (~(difference <= allowed)).any(1).nonzero().flatten().tolist()
        if bad:
            raise LetsError(
                f"{resolve_pack(path)[0] / CONFIG}: samples[{bad[0]}]: logits must be within "
                f"{_TOLERANCE:g} of the stored ones, differ by {float(worst[bad[0]]):.3g}; the "
                "pack was written by a version with other arithmetic, or for another tokenizer"
            )
        report |= {"samples_checked": len(config.samples), "max_difference": float(worst.max())}
    return report
