"""What a run of `lets bench` is asked for, checked before anything is built."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from lets.bench.baselines import baseline_class
from lets.bench.baselines import strict_name as strict
from lets.errors import LetsError
from lets.precision import named_dtype

_MAX_DENSITY = 0.5


@dataclass(frozen=True)
class BenchSettings:
    """All combinations of tasks, batch, seq_len and policies are measured.

    Args:
        encoder: A built-in shape (random weights from `seed`) or a folder.
        policies: See `lets.bench.policies.task_policies`; ignored with `packs`.
        packs: Real task packs; with more tasks than packs each answers several times.
        mode: Engine mode; None: the engine's own.
        quantization: Of the engine's frozen matrices; None or int8.
        cls_last: Also every baseline with a [CLS]-only last layer.
        rounds, seconds: A row ends after so many rounds, or after so long.
        max_memory: Gigabytes that the models of one baseline may take.
        max_models: At most so many distinct dense models; more tasks than that scale the time.
    """

    encoder: str = "bert-base"
    policies: tuple[str, ...] = ("fig2b",)
    tasks: tuple[int, ...] = (9,)
    batch: tuple[int, ...] = (1,)
    seq_len: tuple[int, ...] = (128,)
    baselines: tuple[str, ...] = ("eager",)
    packs: tuple[str, ...] = ()
    density: float = 0.005
    mode: str | None = None
    quantization: str | None = None
    dtype: str = "float32"
    device: str = "cpu"
    threads: int | None = None
    cls_last: bool = False
    rounds: int = 15
    seconds: float = 20.0
    max_memory: float = 8.0
    max_models: int = 9
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tasks", "batch", "seq_len"):
            _check_numbers(name.replace("_", "-"), getattr(self, name))
        for name in ("rounds", "max_models"):
            _check_numbers(name.replace("_", "-"), (getattr(self, name),))
        if self.threads is not None:
            _check_numbers("threads", (self.threads,))
        for name in ("policies", "baselines"):
            if not getattr(self, name):
                raise LetsError(f"bench: {name} must hold at least one name, got none")
        for baseline in self.baselines:
            baseline_class(baseline)
        for name in ("seconds", "max_memory"):
            if not getattr(self, name) > 0:
                raise LetsError(
                    f"bench: {name.replace('_', '-')} must be positive, got {getattr(self, name)}"
                )
        if not 0 < self.density <= _MAX_DENSITY:
            raise LetsError(f"bench: density must be in (0, {_MAX_DENSITY}], got {self.density}")
        named_dtype(self.dtype, "bench")
        if self.quantization not in (None, "int8"):
            raise LetsError(f"bench: quantization must be int8, got {self.quantization!r}")
        if self.device != "cpu" and not torch.cuda.is_available():
            raise LetsError(f"bench: device must be cpu (no CUDA device found), got {self.device}")

    @property
    def torch_dtype(self) -> torch.dtype:
        return named_dtype(self.dtype, "bench")

    def all_baselines(self) -> tuple[str, ...]:
        """With their stricter forms where those are wanted; each once."""
        names = list(self.baselines)
        if self.cls_last:
            names += [strict(name) for name in self.baselines]
        return tuple(dict.fromkeys(names))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def _check_numbers(name: str, numbers: tuple[int, ...]) -> None:
    if not numbers:
        raise LetsError(f"bench: {name} must hold at least one number, got none")
    for number in numbers:
        if number < 1:
            raise LetsError(f"bench: {name} must be at least 1, got {number}")
