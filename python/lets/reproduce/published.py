"""The numbers that the paper prints; the only ones that are typed."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def paper() -> dict[str, Any]:
    """The paper's published numbers, typed from it."""
    file = resources.files("lets.reproduce") / "paper.json"
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return data
