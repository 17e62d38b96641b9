"""A Drawing as a PNG file; matplotlib draws the same shapes, no browser is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lets.errors import LetsError
from lets.report.drawing import Circle, Drawing, Lines, Raster, Rect, Shape, Text
from lets.report.raster import RGB
from lets.report.theme import COLORS

_POINTS = 72 / 96  # of a pixel
_ALIGN = {"start": "left", "middle": "center", "end": "right"}


def save_png(drawing: Drawing, path: str | Path, scale: float = 2.0) -> None:
    """Write a picture in the colours of the light theme.

    Args:
        scale: Pixels of the file per pixel of the drawing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise LetsError(
            "report: PNG needs matplotlib, which is not installed; pip install 'lets-ext[report]'"
        ) from error
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = drawing.width, drawing.height
    with matplotlib.rc_context({"font.family": "DejaVu Sans", "text.parse_math": False}):
        figure = Figure((width / 96, height / 96), dpi=96 * scale, facecolor=_color("surface"))
        FigureCanvasAgg(figure)
        axes: Any = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        for order, shape in enumerate(drawing.shapes):
            _draw(axes, shape, order)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _draw(axes: Any, shape: Shape, order: int) -> None:
    from matplotlib import patches

    if isinstance(shape, Text):
        axes.text(
            shape.x, shape.y, shape.text, fontsize=0.92 * _POINTS * shape.size,
            color=_color(shape.color), ha=_ALIGN[shape.anchor], va="baseline", zorder=order,
            weight="bold" if shape.bold else "normal", rotation=-shape.rotate,
            rotation_mode="anchor",
        )  # fmt: skip
    elif isinstance(shape, Raster):
        cells = [[(*(c / 255 for c in RGB), share) for share in row] for row in shape.shares]
        extent = (shape.x, shape.x + shape.width, shape.y + shape.height, shape.y)
        axes.imshow(
            cells, extent=extent, aspect="auto", interpolation="nearest", zorder=order,
        )  # fmt: skip
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    else:
        look: dict[str, Any] = {
            "facecolor": _color(shape.fill, getattr(shape, "opacity", 1)),
            "edgecolor": _color(shape.stroke),
            "linewidth": _POINTS * (shape.width if isinstance(shape, Lines) else 1.5),
            "linestyle": (0, (3, 2)) if getattr(shape, "dash", False) else "-",
            "zorder": order,
        }
        if not shape.stroke:
            look["linewidth"] = 0
        if isinstance(shape, Circle):
            axes.add_patch(patches.Circle((shape.x, shape.y), shape.radius, **look))
        elif isinstance(shape, Rect):
            axes.add_patch(_rect(shape, look))
        else:
            polygon = patches.Polygon(list(shape.points), closed=bool(shape.fill), **look)
            axes.add_patch(polygon)


def _rect(shape: Rect, look: dict[str, Any]) -> Any:
    from matplotlib import patches

    corner, size = (shape.x, shape.y), (shape.width, shape.height)
    if not shape.radius:
        return patches.Rectangle(corner, *size, **look)
    style = f"round,pad=0,rounding_size={shape.radius}"
    return patches.FancyBboxPatch(corner, *size, boxstyle=style, **look)


def _color(role: str | None, opacity: float = 1) -> Any:
    return (COLORS[role][0], opacity) if role else "none"
