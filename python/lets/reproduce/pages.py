"""The pages of `lets reproduce` by name; a page's module is imported when it is asked for."""

from __future__ import annotations

import importlib

from lets.errors import LetsError
from lets.reproduce.page import Page
from lets.reproduce.source import Source

PAGES = ("summary", "figure1", "figure3", "figure5", "search", "overheads", "seqlen")


def build_page(name: str, source: Source) -> Page:
    """Make one page."""
    if name not in PAGES:
        raise LetsError(f"reproduce: must be one of {', '.join(PAGES)} or all, got {name!r}")
    page: Page = importlib.import_module(f"lets.reproduce.{name}").page(source)
    return page
