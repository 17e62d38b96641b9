"""How a search went, compact enough for a result cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lets.train.checkpoint import read_json

_NUMBERS = ("epoch", "temperature", "expected_gflop", "loss_arch", "loss_weights")


def search_trace(search_folder: Path) -> dict[str, Any]:
    """Steps, reason of the end, and the records of temperature, losses and selectors.

    While the weights warm up the selectors stand still; nothing is kept of that.
    """
    found = read_json(search_folder / "result.json")["result"]
    history = [
        {name: round(entry[name], 4) for name in _NUMBERS}
        | {name: [round(p, 3) for p in entry[name]] for name in ("p_input", "p_pool")}
        for entry in found["history"]
        if entry["loss_arch"] != 0.0
    ]
    return {"steps": found["step"], "stopped": found["stopped"], "history": history}
