"""`lets env`: versions, the build, and what is missing."""

from __future__ import annotations

from lets.cli.output import Json, print_json
from lets.errors import LetsError


def env(as_json: Json = False) -> None:
    """Print versions, how the extension was built, and what is missing."""
    try:
        from lets_ext.env import collect, render
    except ImportError as error:
        raise LetsError(f"env: cannot import lets_ext: {error}") from error
    report = collect()
    if as_json:
        print_json(report)
    else:
        print(render(report))
