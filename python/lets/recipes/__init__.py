"""Recipes: the settings of a run as data files, shipped or the user's own."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from lets.config import FitConfig
from lets.errors import LetsError


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    folder = resources.files("lets.recipes")
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".json"))


def load_recipe(name_or_path: str, task_name: str | None = None) -> FitConfig:
    """Read a shipped recipe by name, or a JSON file of the same form.

    Args:
        name_or_path: `paper`, `small`, `demo`, or a path.
        task_name: Entries under `"tasks": {<task_name>: …}` of the recipe are applied on top.
    """
    path = Path(name_or_path)
    if name_or_path in recipe_names():
        text = resources.files("lets.recipes").joinpath(f"{name_or_path}.json").read_text("utf-8")
    elif path.is_file():
        text = path.read_text("utf-8")
    else:
        shipped = ", ".join(recipe_names())
        raise LetsError(f"recipe: {name_or_path!r} is neither a file nor one of {shipped}")
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise LetsError(f"recipe {name_or_path}: not JSON ({error})") from None
    if not isinstance(raw, dict):
        raise LetsError(f"recipe {name_or_path}: must be a JSON object, got {type(raw).__name__}")
    raw.pop("description", None)
    per_task = raw.pop("tasks", {})
    config = FitConfig.from_dict(raw, f"recipe {name_or_path}")
    chosen = per_task.get(task_name.lower()) if task_name else None
    return config.override(chosen, f"recipe {name_or_path}.tasks") if chosen else config
