"""The systems of the comparison: one file each, one table of names.

A system is a function from `base.SystemRun` to `base.SystemResult`; beside it stands
`<function>_costs`, from `base.Sizes` to what a task of it costs.
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import TYPE_CHECKING, Any

from lets.errors import LetsError

if TYPE_CHECKING:
    from lets.baselines.base import Costs, Sizes, System

# Name → module:function; a module is imported when its system is asked for. <n> is a number that
# the function gets: layers, groups, or a width.
SYSTEMS: dict[str, str] = {
    "full": "lets.baselines.full:full",
    "lets-pc": "lets.baselines.lets_pc:lets_pc",
    "lets-p": "lets.baselines.lets_p:lets_p",
    "lets-c": "lets.baselines.lets_c:lets_c",
    "lets-pc-b<n>": "lets.baselines.lets_pc:lets_pc",
    "lets-pc-t<n>": "lets.baselines.lets_pc:lets_pc_target",
    "lets-pc-stream": "lets.baselines.lets_pc:lets_pc_stream",
    "lets-g<n>": "lets.baselines.lets_pc:lets_g",
    "lets-d<n>": "lets.baselines.lets_pc:lets_d",
    "lets-s<n>": "lets.baselines.lets_pc:lets_s",
    "freeze-<n>": "lets.baselines.freeze:freeze",
    "append-<n>": "lets.baselines.append:append",
    "bitfit": "lets.baselines.bitfit:bitfit",
    "adapters": "lets.baselines.adapters:chosen_adapters",
    "adapters-<n>": "lets.baselines.adapters:adapters",
    "diff-pruning": "lets.baselines.diff_pruning:diff_pruning",
    "diff-pruning-structured": "lets.baselines.diff_pruning:structured_diff_pruning",
    "lora": "lets.baselines.lora:lora",
    "shira": "lets.baselines.shira:shira",
}

# Any system of LeTS may learn from the fully fine-tuned model too: lets-pc-distill.
DISTILLED = "-distill"


def system(name: str) -> System:
    """A system by its name, e.g. `full` or `freeze-3`."""
    if not _is_distilled(name):
        return _find(name, "")
    from lets.baselines.distilled import distilled

    return functools.partial(distilled, student=_find(name.removesuffix(DISTILLED), ""))


def system_costs(name: str, sizes: Sizes) -> Costs:
    """What a task of a system, or of a compressed encoder, costs by accounting; nothing is trained.

    New parameters leave out the ordinary head, pooler and classifier, which all systems on the
    ordinary architecture have alike; the layer-wise head of LeTS is counted.
    """
    from lets.baselines.compressed import COMPRESSED, compressed_costs

    if name in COMPRESSED:
        return compressed_costs(name, sizes)
    own = name.removesuffix(DISTILLED) if _is_distilled(name) else name
    costs: Costs = _find(own, "_costs")(sizes)
    return costs


def is_beyond(name: str) -> bool:
    """Whether a system is none of the paper's: a policy of the front, the stream, or taught."""
    return _is_distilled(name) or re.fullmatch(r"lets-(d\d+|s\d+|pc-stream)", name) is not None


def _is_distilled(name: str) -> bool:
    return name.startswith("lets-") and name.endswith(DISTILLED)


def _find(name: str, suffix: str) -> Any:
    """The system's function, or `<function>_costs` beside it."""
    match = re.fullmatch(r"(.*?)(\d{1,4})", name)
    family = f"{match[1]}<n>" if match else name
    if family not in SYSTEMS or ("<n>" in family) != (match is not None):
        raise LetsError(f"system: must be one of {', '.join(SYSTEMS)}, got {name!r}")
    module, _, function = SYSTEMS[family].partition(":")
    found = getattr(importlib.import_module(module), function + suffix)
    return functools.partial(found, number=int(match[2])) if match else found
