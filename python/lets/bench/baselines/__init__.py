"""Dense baselines by name. Each is one small file; each is checked before it is timed."""

from __future__ import annotations

from lets.bench.baselines.base import Baseline, Dense, Forward, Inputs
from lets.bench.baselines.compiled import Compiled
from lets.bench.baselines.cuda import CudaGraph, CudaStreams
from lets.bench.baselines.eager import Eager
from lets.bench.baselines.lora import LoraMixed, LoraSwitch
from lets.bench.baselines.onnx_runtime import OrtFp32, OrtInt8
from lets.bench.baselines.own_dense import OwnDense
from lets.bench.baselines.stacked import Stacked
from lets.errors import LetsError

__all__ = ["BASELINES", "Baseline", "Dense", "Forward", "Inputs", "baseline_class", "is_strict"]

BASELINES: dict[str, type[Baseline]] = {
    "eager": Eager,
    "compile": Compiled,
    "own-dense": OwnDense,
    "ort-fp32": OrtFp32,
    "ort-int8": OrtInt8,
    "stacked": Stacked,
    "cuda-graph": CudaGraph,
    "cuda-streams": CudaStreams,
    "lora-switch": LoraSwitch,
    "lora-mixed": LoraMixed,
}
_STRICT = "-cls-last"


def baseline_class(name: str) -> type[Baseline]:
    """The class of a name, with or without `-cls-last`."""
    plain = name.removesuffix(_STRICT)
    if plain not in BASELINES:
        raise LetsError(
            f"bench: baselines must be among {', '.join(BASELINES)} "
            f"(each also with {_STRICT}), got {name!r}"
        )
    return BASELINES[plain]


def is_strict(name: str) -> bool:
    """Do its models compute only the [CLS] row in their last layer?"""
    return name.endswith(_STRICT)


def strict_name(name: str) -> str:
    return name if is_strict(name) else name + _STRICT
