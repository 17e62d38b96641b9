"""LeTS: one frozen encoder, many text tasks, one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lets.encoder import Encoder
    from lets.errors import LetsError
    from lets.model import LetsModel
    from lets.pack import load_pack, save_pack
    from lets.policy import Policy
    from lets.run.engine import Engine
    from lets.task import Task
    from lets.text_classification import pipeline
    from lets.train.arguments import TrainingArguments
    from lets.train.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "Encoder",
    "Engine",
    "LetsError",
    "LetsModel",
    "Policy",
    "Task",
    "Trainer",
    "TrainingArguments",
    "load_pack",
    "pipeline",
    "save_pack",
]

_HOMES = {
    "Encoder": "lets.encoder",
    "Engine": "lets.run.engine",
    "LetsError": "lets.errors",
    "LetsModel": "lets.model",
    "Policy": "lets.policy",
    "Task": "lets.task",
    "Trainer": "lets.train.trainer",
    "TrainingArguments": "lets.train.arguments",
    "load_pack": "lets.pack",
    "pipeline": "lets.text_classification",
    "save_pack": "lets.pack",
}


def __getattr__(name: str) -> Any:
    """Public names on first use: `lets ops` must not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lets' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
