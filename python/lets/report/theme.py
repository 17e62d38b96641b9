"""Colours by role, for a light page, a dark one and print; the style sheet that SVG carries."""

from __future__ import annotations

# role: (on light, on dark). A role `x-fill` is the inside of what `x` outlines.
COLORS = {
    "surface": ("#ffffff", "#14181d"),
    "ink": ("#1b1f24", "#e8ecf0"),
    "muted": ("#5b6672", "#9aa7b4"),
    "grid": ("#d9dee4", "#333c46"),
    "frozen": ("#2563a8", "#6fb1f2"),
    "frozen-fill": ("#d3e4f6", "#173a5e"),
    "own": ("#c2570c", "#f79a4d"),
    "own-fill": ("#fde3cd", "#5a2e0e"),
    "cls": ("#0f7a55", "#4fd1a5"),
    "cls-fill": ("#d0eee0", "#0f4434"),
    "violet": ("#7440ad", "#c39bf0"),
    "red": ("#b42b3a", "#f07f8b"),
    "gold": ("#8a6d00", "#e3c34a"),
    "brown": ("#7a5238", "#c9a189"),
}
# Lines and points of a chart, in this order.
SERIES = ("frozen", "own", "cls", "violet", "red", "gold", "brown", "muted")
FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"


def svg_style() -> str:
    """Classes `f-<role>` (fill) and `s-<role>` (stroke); a dark screen gets its own colours."""
    light, dark = (_rules(which) for which in (0, 1))
    text = f".lets-svg text{{font-family:{FONT}}}"
    return f"{text}{light}@media screen and (prefers-color-scheme:dark){{{dark}}}"


def _rules(which: int) -> str:
    return "".join(
        f".lets-svg .f-{role}{{fill:{colors[which]}}}.lets-svg .s-{role}{{stroke:{colors[which]}}}"
        for role, colors in COLORS.items()
    )
