"""The pages of `lets reproduce` by name; a page's module is imported when it is asked for."""

from __future__ import annotations

import importlib

from lets.errors import LetsError
from lets.reproduce.page import Page
from lets.reproduce.source import Source

# Name → module:function.
PAGES = {
    "summary": "summary:page",
    "table1": "tables:table1",
    "table2": "tables:table2",
    "table3": "tables:table3",
    "figure1": "figure1:page",
    "figure3": "figure3:page",
    "figure5": "figure5:page",
    "figure6": "figure6:page",
    "figure7": "figure7:page",
    "front": "front:page",
    "search": "search:page",
    "overheads": "overheads:page",
    "seqlen": "seqlen:page",
}


def build_page(name: str, source: Source) -> Page:
    """Make one page."""
    if name not in PAGES:
        raise LetsError(f"reproduce: must be one of {', '.join(PAGES)} or all, got {name!r}")
    module, _, function = PAGES[name].partition(":")
    page: Page = getattr(importlib.import_module(f"lets.reproduce.{module}"), function)(source)
    return page
