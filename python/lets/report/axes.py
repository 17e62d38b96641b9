"""Axes: data coordinates, ticks, lines, points and bars on a Drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lets.report.drawing import Circle, Drawing, Lines, Rect, Text, text_width

Range = tuple[float, float]
Label = Callable[[float], str]


@dataclass(frozen=True)
class Box:
    """A part of a drawing in pixels, without room for ticks and labels."""

    x: float
    y: float
    width: float
    height: float


class Axes:
    """A chart on a drawing: x to the right, y upwards."""

    def __init__(self, out: Drawing, box: Box, x: Range, y: Range) -> None:
        self.out, self.box, self.x_range, self.y_range = out, box, x, y

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point."""
        (x0, x1), (y0, y1), box = self.x_range, self.y_range, self.box
        return (
            box.x + box.width * (x - x0) / (x1 - x0),
            box.y + box.height * (1 - (y - y0) / (y1 - y0)),
        )

    def frame(self, title: str = "", x_label: str = "", y_label: str = "") -> None:
        box = self.box
        bottom = box.y + box.height
        self.out.line((box.x, box.y), (box.x, bottom), (box.x + box.width, bottom), stroke="muted")
        self.out.text(box.x, box.y - 12, title, size=13, bold=True)
        self.out.text(box.x + box.width / 2, bottom + 34, x_label, color="muted", anchor="middle")
        x, y = box.x - 40, box.y + box.height / 2
        self.out.add(Text(x, y, y_label, 12, "muted", "middle", rotate=-90))

    def x_ticks(self, values: Sequence[float], label: Label = "{:g}".format) -> None:
        for value in values:
            x, bottom = self.at(value, self.y_range[0])
            self.out.line((x, bottom), (x, bottom + 4), stroke="muted", width=1)
            self.out.add(Text(x, bottom + 17, label(value), 11, "muted", "middle"))

    def y_ticks(self, values: Sequence[float], label: Label = "{:g}".format) -> None:
        for value in values:
            x, y = self.at(self.x_range[0], value)
            self.out.line((x, y), (x + self.box.width, y), stroke="grid", width=1)
            self.out.add(Text(x - 6, y + 4, label(value), 11, "muted", "end"))

    def line(
        self,
        points: Sequence[tuple[float, float]],
        color: str,
        width: float = 2,
        dash: bool = False,
        title: str = "",
    ) -> None:
        if len(points) > 1:
            pixels = tuple(self.at(x, y) for x, y in points)
            self.out.add(Lines(pixels, color, width, dash, title=title))

    def point(
        self,
        x: float,
        y: float,
        color: str,
        radius: float = 4,
        filled: bool = True,
        title: str = "",
    ) -> None:
        px, py = self.at(x, y)
        self.out.add(Circle(px, py, radius, color if filled else "surface", color, title))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values within a range, about as many as asked for."""
    if high <= low:
        return [low]
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def padded(values: Sequence[float], share: float = 0.08, least: float = 0.0) -> Range:
    """A range around values, with room at both ends."""
    low, high = min(values), max(values)
    room = max(share * (high - low), least)
    return low - room, high + room


def bar(out: Drawing, box: Box, parts: Sequence[tuple[str, float, str]], whole: float) -> None:
    """A horizontal bar of (colour, value, title), `whole` as wide as the box."""
    x = box.x
    for color, value, title in parts:
        width = box.width * max(value, 0.0) / whole
        out.add(Rect(x, box.y, width, box.height, color, None, title=title))
        x += width


def legend(out: Drawing, x: float, y: float, entries: Sequence[tuple[str, str]]) -> None:
    """(colour, text) side by side, starting at the left of a line of text."""
    for color, text in entries:
        out.add(Rect(x, y - 9, 12, 11, color, None, radius=2))
        out.text(x + 18, y, text, color="muted")
        x += 36 + text_width(text)
