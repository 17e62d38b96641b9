"""The cost breakdown of tasks: bars of what each saving removes and what is left."""

from __future__ import annotations

from collections.abc import Mapping

from lets.report.axes import Box, bar, legend
from lets.report.drawing import Drawing, Text, text_width
from lets.report.savings import ParamSavings, Savings

# (field, colour, name); what is left comes first, so that bars compare by their left part.
OPS_PARTS = (
    ("all_rows", "own", "own layers, all rows"),
    ("cls_rows", "cls", "own layers, [CLS] row"),
    ("head", "gold", "head"),
    ("algebra", "violet", "saved: exact algebra"),
    ("cls_only", "cls-fill", "saved: (iii) [CLS] only"),
    ("sparse", "own-fill", "saved: (ii) sparse Q, K, V"),
    ("bypass", "grid", "saved: (i) bypass"),
)
PARAM_PARTS = (
    ("non_zeros", "own", "non-zeros of the masks"),
    ("vectors", "cls", "biases, LayerNorms"),
    ("head", "gold", "head"),
    ("mask", "own-fill", "saved: sparse masks"),
    ("bypass", "grid", "saved: (i) bypass"),
)
_LEFT = ("all_rows", "cls_rows", "head", "non_zeros", "vectors")


def ops_breakdown(tasks: Mapping[str, Savings]) -> Drawing:
    """Operations of each task in % of a full encoder."""
    percents = {name: savings.percent() for name, savings in tasks.items()}
    return _bars("Operations of each task, in % of the encoder", percents, OPS_PARTS)


def params_breakdown(tasks: Mapping[str, ParamSavings], encoder_params: int) -> Drawing:
    """Parameters of each task in % of the encoder."""
    percents = {name: part.percent(encoder_params) for name, part in tasks.items()}
    return _bars("Parameters of each task, in % of the encoder", percents, PARAM_PARTS)


def _bars(
    title: str,
    tasks: Mapping[str, Mapping[str, float]],
    parts: tuple[tuple[str, str, str], ...],
) -> Drawing:
    left = 24 + max(text_width(name, 13) for name in tasks)
    box = Box(left, 40, 560, 20)
    whole = max(sum(max(p[key], 0.0) for key, _, _ in parts) for p in tasks.values())
    half = -(-len(parts) // 2)
    out = Drawing(left + box.width + 96, 40 + 34 * len(tasks) + 58, title)
    out.text(8, 20, title, size=13, bold=True)
    for row, (name, percent) in enumerate(tasks.items()):
        y = box.y + 34 * row
        out.text(8, y + 15, name, size=13)
        pieces = [(color, percent[k], f"{text}: {percent[k]:.2f}%") for k, color, text in parts]
        bar(out, Box(box.x, y, box.width, box.height), pieces, whole)
        kept = sum(percent[key] for key in _LEFT if key in percent)
        out.add(Text(box.x + box.width + 10, y + 15, f"{kept:.1f}% left", 12, "ink"))
    y = box.y + 34 * len(tasks) + 18
    for half_parts in (parts[:half], parts[half:]):
        legend(out, 8, y, [(color, text) for _, color, text in half_parts])
        y += 22
    out.width = max(out.width, _legend_width(parts, half))
    return out


def _legend_width(parts: tuple[tuple[str, str, str], ...], half: int) -> float:
    rows = (parts[:half], parts[half:])
    return 8 + max(sum(36 + text_width(text) for _, _, text in row) for row in rows)
