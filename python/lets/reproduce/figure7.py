"""Figure 7: masks from the final delta, from that of a short warm-up, and from a random one."""

from __future__ import annotations

from typing import Any

from lets.report.drawing import Drawing, Raster, Rect, Text
from lets.reproduce.page import Page
from lets.reproduce.source import Source
from lets.train.checkpoint import read_json

_WAYS = {
    "final": "final delta",
    "gradient": "delta after the warm-up",
    "random": "random delta",
    "magnitude": "final delta, by magnitude",
}
_SIDE, _LEFT = 150.0, 190.0


def page(source: Source) -> Page:
    found = [read_json(path) for path in sorted((source.folder / "masks").glob("*.json"))]
    text = [
        "Where the kept weights of W_Q, W_K and W_V are in the middle layer, pooled to cells; the "
        "stronger, the more of a cell is kept. Masks rank |gradient · delta|, with the delta of a "
        "whole fine-tuning, of a short warm-up (that is Delta-Pruning) or a random one; the last "
        "ranks the final delta's magnitude. Overlap: share of the first mask's weights, over all "
        "matrices of the encoder, that another has too; by chance it would be the density."
    ]
    if not found:
        text.append("No masks were given: run `python -m bench.glue.masks`.")
    text.extend(map(_origin, found))
    rows = [
        [
            result["task"],
            *(f"{100 * result['overlap'][way]:.1f}%" for way in _WAYS),
            f"{100 * result['density']:g}%",
        ]
        for result in found
    ]
    tables = [
        ("Overlap with the mask of the final delta", ["task", *_WAYS.values(), "by chance"], rows)
    ]
    pictures = {result["task"]: _picture(result) for result in found}
    data = {r["task"]: {k: v for k, v in r.items() if k != "masks"} for r in found}
    return Page("figure7", "Figure 7: masks", text, tables if rows else (), pictures, data)


def _origin(result: dict[str, Any]) -> str:
    return (
        f"{result['task']}: {result['encoder']}, layer {result['layer']}, recipe "
        f"`{result['recipe']}`, seed {result['seed']}, {result['rows']:,} training rows, "
        f"{100 * result['density']:g}% of the weights; full fine-tuning {result['steps']} "
        f"steps, warm-up {result['warmup_steps']} steps; {result['machine']}, commit "
        f"`{result['commit']}`. The paper shows BERT-large on SST-2."
    )


def _picture(result: dict[str, Any]) -> Drawing:
    height = 44 + (_SIDE + 16) * len(_WAYS)
    out = Drawing(_LEFT + 3 * (_SIDE + 16) + 8, height, f"Masks of {result['task']}")
    for i, (way, label) in enumerate(_WAYS.items()):
        y = 40 + i * (_SIDE + 16)
        out.text(8, y + _SIDE / 2, label)
        for k, (matrix, lines) in enumerate(result["masks"][way].items()):
            x = _LEFT + k * (_SIDE + 16)
            shares = [[int(digit, 16) / 15 for digit in line] for line in lines]
            if i == 0:
                out.add(Text(x + _SIDE / 2, y - 12, f"W_{matrix}", 12, "ink", "middle", True))
            out.add(Raster(x, y, _SIDE, _SIDE, shares, f"{label}: W_{matrix}"))
            out.add(Rect(x, y, _SIDE, _SIDE, None, "muted"))
    return out
