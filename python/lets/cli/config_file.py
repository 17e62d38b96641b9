"""`--config run.yaml`: a verb's flags from a file; those of the command line come first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lets.errors import LetsError


def _apply(context: typer.Context, path: Path | None) -> Path | None:
    if path is not None:
        given = read_flags(path, flags_of(context.command))
        context.default_map = {**(context.default_map or {}), **given}
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="YAML file with flags by name; flags of the command line come first.",
        callback=_apply,
        is_eager=True,
        show_default=False,
    ),
]


def flags_of(command: Any) -> dict[str, str]:
    """Parameter of each flag's name, without its dashes in front; `--config` itself left out."""
    return {
        option.lstrip("-").replace("_", "-"): parameter.name
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--") and option not in ("--config", "--help")
    }


def read_flags(path: Path, flags: dict[str, str]) -> dict[str, Any]:
    """Values by parameter. Raises LetsError for what is no flag, naming it."""
    found = read_yaml(path, "--config")
    values: dict[str, Any] = {}
    for key, value in found.items():
        name = flags.get(str(key).replace("_", "-"))
        if name is None:
            known = ", ".join(sorted(flags))
            raise LetsError(f"--config: {path}: unknown flag {key!r}; known: {known}")
        if name in values:
            raise LetsError(f"--config: {path}: {key} gives a flag a second time")
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, (dict, list)) for part in parts):
            raise LetsError(f"--config: {path}: {key} must be a value or a list of values")
        if value is not None:
            values[name] = value
    return values


def read_yaml(path: Path, flag: str) -> dict[Any, Any]:
    """A mapping from a YAML file; the error names the flag that asked for it."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LetsError(f"{flag}: cannot read {path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a 13th month
        raise LetsError(f"{flag}: {path} is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise LetsError(f"{flag}: {path} must be a mapping, got {type(found).__name__}")
    return found
