"""The systems of the comparison: one file each, one table of names.

A system is a function from `base.SystemRun` to `base.SystemResult`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from lets.errors import LetsError

if TYPE_CHECKING:
    from lets.baselines.base import System

# Name → module:function; a module is imported when its system is asked for.
SYSTEMS: dict[str, str] = {
    "full": "lets.baselines.full:full",
    "lets-pc": "lets.baselines.lets_pc:lets_pc",
    "lets-g2": "lets.baselines.lets_pc:lets_g2",
}


def system(name: str) -> System:
    """A system by its name."""
    if name not in SYSTEMS:
        raise LetsError(f"system: must be one of {', '.join(SYSTEMS)}, got {name!r}")
    module, _, function = SYSTEMS[name].partition(":")
    return getattr(importlib.import_module(module), function)
