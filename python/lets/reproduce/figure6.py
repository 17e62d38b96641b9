"""Figure 6: operations and parameters by the number of tasks, and masks by layer and task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lets.nnz import LayerNnz
from lets.report.axes import Axes, Box, legend, ticks
from lets.report.density import densities, density_map
from lets.report.drawing import Drawing
from lets.report.theme import SERIES
from lets.reproduce.cell import NUM_TASKS, Cell
from lets.reproduce.page import Page, provenance
from lets.reproduce.published import paper
from lets.reproduce.results import Results
from lets.reproduce.source import Source

_MOST = 20
_SHOWN = ("full", "freeze-12", "append-1", "lets-g4", "lets-c", "lets-pc")
_SYSTEM = "lets-pc"


@dataclass(frozen=True)
class Growth:
    """What n tasks take: shared + n · per_task, in % of one dense model."""

    shared_ops: float
    ops: float
    shared_params: float
    params: float


def page(source: Source) -> Page:
    results = source.results
    published = _published()
    pictures = {"totals-paper": totals_picture("BERT-large, the paper's table 1", published)}
    data: dict[str, Any] = {"paper": {name: vars(g) for name, g in published.items()}}
    text = [
        *provenance(results, "BERT-large"),
        "Totals by the number of tasks: what all tasks share, and what each adds, in % of one "
        f"dense model. For the paper both follow from table 1's totals of {NUM_TASKS} tasks; for "
        "what was measured here they are in the engine's accounting.",
    ]
    if results is not None:
        measured = {name: _measured(results, name) for name in results.paper_systems}
        title = f"{results.shape.name}, measured systems"
        pictures["totals"] = totals_picture(title, measured)
        data["measured"] = {name: vars(g) for name, g in measured.items()}
        masks = _masks(results)
        if masks:
            pictures["masks"] = density_map(masks)
            data["density"] = masks
            text.append("Masks: share of kept weights by layer and matrix, first seed of a task.")
    tables = [
        _table(f"Totals: {title}", growth)
        for title, growth in (("the paper", published), ("here", measured if results else {}))
        if growth
    ]
    title = "Figure 6: totals by the number of tasks, and masks by layer"
    return Page("figure6", title, text, tables, pictures, data)


def _published() -> dict[str, Growth]:
    rows = {row["system"]: row for row in paper()["table1"]["rows"]}
    return {
        rows[name]["label"]: Growth(
            rows[name]["total_percent"] - NUM_TASKS * rows[name]["new_ops_percent"],
            rows[name]["new_ops_percent"],
            100 * rows[name]["total_params_ratio"] - NUM_TASKS * rows[name]["new_params_percent"],
            rows[name]["new_params_percent"],
        )
        for name in _SHOWN
    }


def _measured(results: Results, system: str) -> Growth:
    ops, params = results.ops(system, "engine"), results.params(system)
    new = params["new_params_percent"]
    return Growth(
        ops["overhead_percent"],
        ops["new_ops_percent"],
        100 * params["total_params_ratio"] - NUM_TASKS * new,
        new,
    )


def totals_picture(title: str, growth: Mapping[str, Growth]) -> Drawing:
    """Operations left, parameters right; a line per system."""
    rows = -(-len(growth) // 4)
    out = Drawing(860, 356 + 22 * rows, f"Totals by the number of tasks: {title}")
    out.text(8, 20, out.title, size=13, bold=True)
    colors = dict(zip(growth, (SERIES * (1 + len(growth) // len(SERIES)))))
    sides = (
        ("operations, % of one model", 70.0, {n: (g.shared_ops, g.ops) for n, g in growth.items()}),
        ("parameters, % of one model", 500.0,
         {n: (g.shared_params, g.params) for n, g in growth.items()}),
    )  # fmt: skip
    for label, x, lines in sides:
        top = max(shared + _MOST * own for shared, own in lines.values())
        axes = Axes(out, Box(x, 64, 330, 240), (1.0, float(_MOST)), (0.0, 1.04 * top))
        axes.y_ticks(ticks(0.0, top))
        axes.x_ticks([1, 5, 9, 15, 20])
        axes.frame(label, "tasks")
        for name, (shared, own) in lines.items():
            ends = [(float(n), shared + n * own) for n in (1, _MOST)]
            axes.line(ends, colors[name], title=f"{name}: {shared:.1f}% + {own:.2f}% a task")
    names = list(growth)
    for row in range(rows):
        entries = [(colors[name], name) for name in names[4 * row : 4 * row + 4]]
        legend(out, 30, 364 + 22 * row, entries)
    return out


def _masks(results: Results) -> dict[str, dict[str, list[float | None]]]:
    cells: dict[str, Cell] = {
        task: seeds[min(seeds)] for task, seeds in results.cells.get(_SYSTEM, {}).items()
    }
    return {
        task: densities(
            results.shape,
            {int(j): LayerNnz(**counts) for j, counts in cell.details["nnz"].items()},
        )
        for task, cell in cells.items()
        if "nnz" in cell.details
    }


def _table(title: str, growth: Mapping[str, Growth]) -> tuple[str, list[str], list[list[str]]]:
    counts = (1, 3, NUM_TASKS, _MOST)
    columns = ["system", *(f"ops, {n}" for n in counts), *(f"params, {n}" for n in counts)]
    rows = [
        [
            name,
            *(f"{g.shared_ops + n * g.ops:.0f}%" for n in counts),
            *(f"{g.shared_params + n * g.params:.0f}%" for n in counts),
        ]
        for name, g in growth.items()
    ]
    return title, columns, rows
