"""Drawing: a picture as a list of shapes in pixels; here as SVG, in `png.py` as PNG."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lets.report.raster import png_of_shares
from lets.report.theme import svg_style

Point = tuple[float, float]
_HEAD = 6.0  # length of an arrow's head
_OUTLINE = 1.5


@dataclass(frozen=True)
class Rect:
    x: float
    y: float
    width: float
    height: float
    fill: str | None = None
    stroke: str | None = None
    dash: bool = False
    radius: float = 0
    title: str = ""
    opacity: float = 1  # of the fill


@dataclass(frozen=True)
class Circle:
    x: float
    y: float
    radius: float
    fill: str | None = None
    stroke: str | None = None
    title: str = ""


@dataclass(frozen=True)
class Lines:
    """A polyline, or with a fill a polygon."""

    points: Sequence[Point]
    stroke: str | None = None
    width: float = 1.5
    dash: bool = False
    fill: str | None = None
    title: str = ""


@dataclass(frozen=True)
class Text:
    x: float
    y: float
    text: str
    size: float = 12
    color: str = "ink"
    anchor: str = "start"  # start, middle or end
    bold: bool = False
    rotate: float = 0  # degrees, clockwise, about (x, y)


@dataclass(frozen=True)
class Raster:
    """Cells of one colour, each with its share between 0 (transparent) and 1. [rows][columns]"""

    x: float
    y: float
    width: float
    height: float
    shares: Sequence[Sequence[float]]
    title: str = ""


Shape = Rect | Circle | Lines | Text | Raster


@dataclass
class Drawing:
    """A picture under construction.

    Args:
        title: What it shows, for readers who cannot see it.
    """

    width: float
    height: float
    title: str
    shapes: list[Shape] = field(default_factory=list)

    def add(self, *shapes: Shape) -> None:
        self.shapes.extend(shapes)

    def text(self, x: float, y: float, text: str, **look: object) -> None:
        self.add(Text(x, y, text, **look))  # type: ignore[arg-type]

    def line(self, *points: Point, stroke: str = "ink", **look: object) -> None:
        self.add(Lines(points, stroke, **look))  # type: ignore[arg-type]

    def arrow(self, *points: Point, stroke: str, width: float = 1.5, title: str = "") -> None:
        """A polyline whose end has a head."""
        (x0, y0), (x1, y1) = points[-2:]
        length = math.hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        base = (x1 - _HEAD * dx, y1 - _HEAD * dy)
        wing = 0.55 * _HEAD
        self.line(*points[:-1], base, stroke=stroke, width=width, title=title)
        left, right = ((base[0] - s * wing * dy, base[1] + s * wing * dx) for s in (1, -1))
        self.add(Lines(((x1, y1), left, right), None, fill=stroke))

    def svg(self, style: bool = True) -> str:
        """The picture as one element.

        Args:
            style: With its style sheet, which a page needs only once.
        """
        body = "".join(map(_svg, self.shapes))
        sheet = f"<style>{svg_style()}</style>" if style else ""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="lets-svg" role="img" '
            f'viewBox="0 0 {_n(self.width)} {_n(self.height)}" width="{_n(self.width)}" '
            f'height="{_n(self.height)}">{sheet}<title>{_escape(self.title)}</title>'
            f"{body}</svg>"
        )


def text_width(text: str, size: float = 12) -> float:
    """About as wide as a text of the page's font gets, in pixels."""
    return 0.58 * size * len(text)


def _svg(shape: Shape) -> str:
    if isinstance(shape, Text):
        x, y = _n(shape.x), _n(shape.y)
        look = f'class="f-{shape.color}" text-anchor="{shape.anchor}" font-size="{_n(shape.size)}"'
        if shape.bold:
            look += ' font-weight="600"'
        if shape.rotate:
            look += f' transform="rotate({_n(shape.rotate)} {x} {y})"'
        return f'<text x="{x}" y="{y}" {look}>{_escape(shape.text)}</text>'
    title = f"<title>{_escape(shape.title)}</title>" if shape.title else ""
    if isinstance(shape, Raster):
        data = base64.b64encode(png_of_shares(shape.shares)).decode()
        return (
            f'<image {_box(shape)} preserveAspectRatio="none" style="image-rendering:pixelated" '
            f'href="data:image/png;base64,{data}">{title}</image>'
        )
    if isinstance(shape, Rect):
        extra = f' rx="{_n(shape.radius)}"' if shape.radius else ""
        extra += f' fill-opacity="{_n(shape.opacity)}"' if shape.opacity < 1 else ""
        return f"<rect {_box(shape)}{extra} {_look(shape)}>{title}</rect>"
    if isinstance(shape, Circle):
        at = f'cx="{_n(shape.x)}" cy="{_n(shape.y)}" r="{_n(shape.radius)}"'
        return f"<circle {at} {_look(shape)}>{title}</circle>"
    points = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
    tag = "polygon" if shape.fill else "polyline"
    return f'<{tag} points="{points}" {_look(shape)}>{title}</{tag}>'


def _look(shape: Rect | Circle | Lines) -> str:
    classes = [f"f-{shape.fill}"] if shape.fill else []
    classes += [f"s-{shape.stroke}"] if shape.stroke else []
    out = f'class="{" ".join(classes)}"' + ("" if shape.fill else ' fill="none"')
    if shape.stroke:
        width = shape.width if isinstance(shape, Lines) else _OUTLINE
        out += f' stroke-width="{_n(width)}"'
    if getattr(shape, "dash", False):
        out += ' stroke-dasharray="4 3"'
    return out


def _box(shape: Rect | Raster) -> str:
    return (
        f'x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" height="{_n(shape.height)}"'
    )


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
