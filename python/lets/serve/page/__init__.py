"""Two pages without references: `/`, to try the tasks, and `/docs`, which draws /openapi.json."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from typing import Any

from fastapi import FastAPI, Response

from lets.report.theme import COLORS, svg_style

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


def add_pages(app: FastAPI) -> None:
    for path, file in (("/", "index.html"), ("/docs", "docs.html")):
        app.add_api_route(path, _view(file), include_in_schema=False, methods=["GET"])


def _view(file: str) -> Any:
    folder = resources.files(__package__)
    style = _colors() + folder.joinpath("page.css").read_text("utf-8") + svg_style()
    text = folder.joinpath(file).read_text("utf-8").replace("/* style */", style)
    headers = {
        "content-security-policy": _policy(text),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }

    async def view() -> Response:
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    return view


def _colors() -> str:
    """The report's colours as variables, light and dark."""
    light, dark = (
        "".join(f"--{role}:{colors[which]};" for role, colors in COLORS.items()) for which in (0, 1)
    )
    return f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _policy(text: str) -> str:
    """Only the page's own script and style run, and they may only call this server."""
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, code in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    return (
        f"default-src 'none'; script-src {' '.join(allowed['script'])}; "
        f"style-src {' '.join(allowed['style'])}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
