"""The course of a search: temperature, expected cost, and every selector's probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lets.report.axes import Axes, Box, padded, ticks
from lets.report.drawing import Drawing, Raster, Rect, Text

_WIDTH, _ROW = 560.0, 14.0


def search_picture(name: str, history: Sequence[Mapping[str, Any]]) -> Drawing:
    """One search, from the history of search/result.json or of a result cell; at least one."""
    num_layers = len(history[0]["p_input"])
    out = Drawing(_WIDTH + 180, 0, f"Search of {name}")
    out.text(8, 20, out.title, size=13, bold=True)
    epochs = [float(entry["epoch"]) for entry in history]
    lines = (("temperature", "temperature", "red"), ("expected GFLOP", "expected_gflop", "frozen"))
    half = (_WIDTH - 60) / 2
    for i, (title, key, color) in enumerate(lines):
        axes = _curve(out, Box(70 + i * (half + 70), 62, half, 84), epochs, history, key, color)
        axes.frame(title, "epoch")
    y = 216.0
    for title, key in (("input", "p_input"), ("pool", "p_pool")):
        probabilities = [entry[key] for entry in history]
        if all(set(entry) in ({0.0}, {1.0}) for entry in probabilities):
            letter = "f" if probabilities[0][0] else "p"
            out.text(70, y - 8, f"{title} selectors: not searched, all {letter}", bold=True)
            y += 24
        else:
            _strip(out, y, title, epochs, probabilities)
            y += _ROW * num_layers + 44
    text = "the stronger, the likelier is the task's own source; right: the last probability of f"
    out.add(Text(70, y - 8, text, 11, "muted"))
    out.height = y + 8
    return out


def _curve(
    out: Drawing,
    box: Box,
    epochs: Sequence[float],
    history: Sequence[Mapping[str, Any]],
    key: str,
    color: str,
) -> Axes:
    values = [float(entry[key]) for entry in history]
    x = (0.0, max(epochs))
    axes = Axes(out, box, x, padded([0.0, *values], 0.05, 1e-6))
    axes.y_ticks(ticks(0.0, max(values) or 1.0, 3))
    axes.x_ticks(ticks(*x, 4))
    axes.line(list(zip(epochs, values)), color)
    for epoch, value in zip(epochs, values):
        axes.point(epoch, value, color, 2.5, title=f"epoch {epoch:.2f}: {value:.3g}")
    return axes


def _strip(
    out: Drawing, y: float, title: str, epochs: Sequence[float], probabilities: list[list[float]]
) -> None:
    """A row per layer, bottom layer first; a column per entry of the history."""
    num_layers = len(probabilities[0])
    high = _ROW * num_layers
    shares = [[entry[j] for entry in probabilities] for j in range(num_layers)]
    out.text(70, y - 8, f"{title} selectors", size=12, bold=True)
    out.add(Raster(70, y, _WIDTH, high, shares, f"P({title} = f) by layer and epoch"))
    out.add(Rect(70, y, _WIDTH, high, None, "muted"))
    for j in range(num_layers):
        middle = y + _ROW * (j + 0.5) + 4
        out.add(Text(64, middle, f"layer {j}", 10, "muted", "end"))
        end = probabilities[-1][j]
        out.add(Text(78 + _WIDTH, middle, f"{'f' if end > 0.5 else 'p'} {end:.2f}", 10, "ink"))
    out.add(Text(70, y + high + 15, f"epoch {epochs[0]:.2f}", 10, "muted"))
    out.add(Text(70 + _WIDTH, y + high + 15, f"epoch {epochs[-1]:.2f}", 10, "muted", "end"))
