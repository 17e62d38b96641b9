"""What `lets validate` finds out about a task pack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lets.encoder import Encoder
from lets.errors import LetsError
from lets.pack import CONFIG, read_pack, resolve_pack, sample_logits
from lets.pack_config import PackConfig

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
        "variant": task.variant,
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
        worst = check_sample_outputs(config, found, str(resolve_pack(path)[0] / CONFIG))
        report |= {"samples_checked": len(config.samples), "max_difference": worst}
    return report


def check_sample_outputs(
    config: PackConfig, found: Tensor, where: str, tolerance: float = _TOLERANCE
) -> float:
    """The largest difference between computed logits of a pack's samples and the stored ones.

    Args:
        found: In the order of the samples. [n, C]
        tolerance: Allowed per 1 + |logit|; the default is for float32.

    Raises:
        LetsError: it is larger than rounding explains.
    """
    stored = torch.tensor([sample.logits for sample in config.samples])
    difference = (found - stored).abs()
    worst = difference.amax(1)
    allowed = tolerance * (1 + stored.abs())
    bad = (~(difference <= allowed)).any(1).nonzero().flatten().tolist()
    if bad:
        raise LetsError(
            f"{where}: samples[{bad[0]}]: logits must be within "
            f"{tolerance:g} of the stored ones, differ by {float(worst[bad[0]]):.3g}; the "
            "pack was written by a version with other arithmetic, or for another tokenizer"
        )
    return float(worst.max())
