"""Mask density by layer and matrix, and pictures of the masks themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

import torch

from lets.nnz import LayerNnz, TaskNnz
from lets.report.drawing import Drawing, Raster, Rect, Text, text_width
from lets.shape import EncoderShape
from lets_ext import DeltaLayout

MATRICES = {"query": "Q", "key": "K", "value": "V", "out": "O", "up": "W1", "down": "W2"}
_CELL_W, _CELL_H = 46.0, 22.0
_LOW, _HIGH = 1e-5, 1e-1  # densities at which a cell is white and full


def densities(shape: EncoderShape, nnz: TaskNnz) -> dict[str, list[float | None]]:
    """Share of kept weights by matrix, a value per layer; None where the layer is bypassed."""
    full = LayerNnz.full(shape)
    return {
        f.name: [
            getattr(nnz[j] or full, f.name) / getattr(full, f.name) if j in nnz else None
            for j in range(shape.num_layers)
        ]
        for f in fields(LayerNnz)
    }


def density_map(tasks: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Drawing:
    """A table of each task, matrix by layer, coloured by the logarithm of the density."""
    num_layers = len(next(iter(next(iter(tasks.values())).values())))
    left = 66 + max(text_width(name, 13) for name in tasks)
    block = _CELL_H * len(MATRICES) + 22
    out = Drawing(
        left + _CELL_W * num_layers + 16, 52 + block * len(tasks),
        "Kept weights by layer and matrix, in %",
    )  # fmt: skip
    out.text(8, 20, out.title, size=13, bold=True)
    for j in range(num_layers):
        out.add(Text(left + _CELL_W * (j + 0.5), 42, str(j), 11, "muted", "middle"))
    for row, (name, by_matrix) in enumerate(tasks.items()):
        y = 50 + block * row
        out.text(8, y + block / 2 - 8, name, size=13)
        for line, (matrix, label) in enumerate(MATRICES.items()):
            top = y + _CELL_H * line
            out.add(Text(left - 8, top + 15, label, 11, "muted", "end"))
            for j, density in enumerate(by_matrix[matrix]):
                _cell(out, left + _CELL_W * j, top, density, f"{name}, layer {j}, {label}")
    return out


def _cell(out: Drawing, x: float, y: float, density: float | None, title: str) -> None:
    width, height = _CELL_W - 2, _CELL_H - 2
    if density is None:
        out.add(Rect(x, y, width, height, None, "grid", dash=True, title=f"{title}: bypassed"))
        return
    share = 0.0
    if density > 0:
        share = math.log(density / _LOW) / math.log(_HIGH / _LOW)
    share = 0.75 * min(max(share, 0.0), 1.0)  # the number on it stays readable
    text = f"{title}: {100 * density:.4g}%"
    out.add(Rect(x, y, width, height, "own", None, title=text, opacity=share))
    out.add(Text(x + width / 2, y + 14, _percent(density), 10, "ink", "middle"))


def _percent(density: float) -> str:
    percent = 100 * density
    if percent == 0:
        return "0"
    return f"{percent:.1g}" if percent < 0.1 else f"{percent:.2g}"


def by_matrix(layouts: Mapping[str, DeltaLayout]) -> dict[str, DeltaLayout]:
    """One layer's layouts with Q, K and V apart, by the names that pictures show."""
    hidden = layouts["qkv"].in_features
    parts = (layouts["qkv"].rows(i * hidden, (i + 1) * hidden) for i in range(3))
    return dict(zip(MATRICES.values(), (*parts, *(layouts[n] for n in ("out", "up", "down")))))


def mask_cells(layout: DeltaLayout, cells: int = 96) -> list[list[float]]:
    """A mask [O, I] pooled to at most so many cells a side; shares of the fullest cell."""
    out_features, in_features = layout.num_tasks * layout.out_features, layout.in_features
    step = max(1, math.ceil(max(out_features, in_features) / cells))
    counts = layout.crow_indices.diff().long()
    rows = torch.repeat_interleave(torch.arange(out_features), counts) // step
    columns = layout.col_indices.long() // step
    height, width = (math.ceil(size / step) for size in (out_features, in_features))
    total = torch.bincount(rows * width + columns, minlength=height * width).double()
    top = total.max()
    shares = total / top if top > 0 else total
    return shares.sqrt().reshape(height, width).tolist()


def mask_pictures(title: str, masks: Mapping[str, DeltaLayout]) -> Drawing:
    """Masks by caption, side by side, stronger where more weights are kept."""
    side, gap, x = 150.0, 18.0, 12.0
    out = Drawing(12, side + 66, title)
    out.text(12, 20, title, size=13, bold=True)
    for caption, layout in masks.items():
        cells = mask_cells(layout)
        scale = side / max(len(cells), len(cells[0]))
        width, height = scale * len(cells[0]), scale * len(cells)
        wide = max(width, text_width(caption, 11))
        out.add(Raster(x, 52, width, height, cells, f"{caption}: {layout.nnz} non-zeros"))
        out.add(Rect(x, 52, width, height, None, "muted"))
        out.add(Text(x, 44, caption, 11, "muted"))
        x += wide + gap
    out.width = max(x, 24 + text_width(title, 13))
    return out
