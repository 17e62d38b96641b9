"""`lets env`: versions, the build, and what is missing."""

from __future__ import annotations

from lets.cli.output import Json
from lets.errors import LetsError


def env(as_json: Json = False) -> None:
    """Print versions, how the extension was built, and what is missing."""
    try:
        from lets_ext.env import main
    except ImportError as error:
        raise LetsError(f"env: cannot import lets_ext: {error}") from error
    main(["--json"] if as_json else [])
