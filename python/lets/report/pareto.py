"""Score against operations, the area of a point by its parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lets.report.axes import Axes, Box, padded, ticks
from lets.report.drawing import Drawing, Text, text_width


@dataclass(frozen=True)
class Choice:
    """Something that one could run.

    Args:
        score: Larger is better.
        ops: In % of the encoder.
        params: New parameters in % of the encoder.
        reference: Drawn hollow, e.g. full fine-tuning.
    """

    name: str
    score: float
    ops: float
    params: float
    color: str = "frozen"
    reference: bool = False


def front(choices: Sequence[Choice]) -> list[Choice]:
    """Those that no other beats in score, operations and parameters at once, cheapest first."""

    def beaten(one: Choice) -> bool:
        return any(
            other.score >= one.score
            and other.ops <= one.ops
            and other.params <= one.params
            and (other.score, other.ops, other.params) != (one.score, one.ops, one.params)
            for other in choices
        )

    return sorted((c for c in choices if not beaten(c)), key=lambda c: c.ops)


def pareto_picture(
    choices: Sequence[Choice],
    title: str,
    y_label: str,
    x_label: str,
    links: Sequence[tuple[Choice, Choice]] = (),
    level: float | None = None,
    logarithmic: bool = False,
) -> Drawing:
    """Points by name.

    Args:
        links: Pairs to join by a dashed line: neighbours of a front, or a task and its reference.
        level: A score to draw a line at.
        logarithmic: Whether equal steps to the right are equal ratios of operations.
    """

    def across(ops: float) -> float:
        return math.log10(max(ops, 0.01)) if logarithmic else ops

    box = Box(72, 48, 640, 300)
    out = Drawing(box.x + box.width + 110, box.y + box.height + 56, title)
    low, high = padded([c.score for c in choices], 0.12, 0.5)
    most = across(max(c.ops for c in choices))
    least = across(min(c.ops for c in choices)) if logarithmic else 0.0
    wide = most - least or 1.0
    axes = Axes(out, box, (least - 0.04 * wide, most + 0.12 * wide), (low, high))
    axes.y_ticks(ticks(low, high))
    if logarithmic:
        marks = [math.log10(m * 10.0**e) for e in range(-2, 4) for m in (1, 2, 5)]
        axes.x_ticks([m for m in marks if least <= m <= most], lambda x: f"{10**x:g}")
    else:
        axes.x_ticks(ticks(0.0, most, 6))
    axes.frame(title, x_label, y_label)
    if level is not None:
        axes.line([(axes.x_range[0], level), (axes.x_range[1], level)], "frozen", 1)
    for link in links:
        axes.line([(across(c.ops), c.score) for c in link], "muted", 1, dash=True)
    taken: list[tuple[float, float, float]] = []
    for choice in sorted(choices, key=lambda c: -c.score):
        radius = max(2.5, 1.2 * math.sqrt(choice.params))
        text = (
            f"{choice.name}: {choice.score:.1f} at {choice.ops:.1f}% new operations, "
            f"{choice.params:.2f}% new parameters"
        )
        axes.point(
            across(choice.ops), choice.score, choice.color, radius, not choice.reference, text
        )
        x, y = axes.at(across(choice.ops), choice.score)
        start, width = x + radius + 3, text_width(choice.name, 11)
        y = _free(start, width, y - 0.5 * radius - 3, taken)
        taken.append((start, start + width, y))
        out.add(Text(start, y, choice.name, 11, "ink"))
    return out


def _free(start: float, wide: float, y: float, taken: list[tuple[float, float, float]]) -> float:
    """The first height at or below y at which a label overlaps no other."""
    while any(a < start + wide and start < b and abs(y - t) < 12 for a, b, t in taken):
        y += 12
    return y
