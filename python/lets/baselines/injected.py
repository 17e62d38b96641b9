"""What LoRA and SHiRA have in common: adapters that `peft` puts into an ordinary classifier."""

from __future__ import annotations

from typing import Any

from lets.baselines.base import Costs, SystemResult, SystemRun
from lets.baselines.ordinary import train_part
from lets.errors import LetsError
from lets.weights import matrix_paths


def train_injected(
    run: SystemRun, name: str, config: str, matrices: tuple[str, ...], costs: Costs, **settings: Any
) -> SystemResult:
    """Train the adapters of a peft configuration.

    Args:
        config: Name of its class.
        matrices: Keys of `matrix_paths`.
    """
    try:
        import peft
    except ImportError as error:
        raise LetsError(f"{name}: needs peft: pip install 'lets-ext[bench]'") from error

    def prepare(model: Any) -> None:
        paths = matrix_paths(model)
        targets = [paths[matrix] for matrix in matrices]
        chosen = getattr(peft, config)(target_modules=targets, **settings)
        peft.inject_adapter_in_model(chosen, model)

    return train_part(run, name, prepare, run.inputs.config.light, costs)


def matrix_sizes(hidden: int, inner: int) -> dict[str, tuple[int, int]]:
    """(out_features, in_features) of a layer's matrices."""
    square = dict.fromkeys(("query", "key", "value", "out"), (hidden, hidden))
    return {**square, "up": (inner, hidden), "down": (hidden, inner)}
