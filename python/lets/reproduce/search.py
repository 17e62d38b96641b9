"""How searches went: temperature, expected cost and selectors of every searched task."""

from __future__ import annotations

from lets.policy import Policy
from lets.report.architecture import architecture
from lets.report.history import search_picture
from lets.reproduce.cell import Cell
from lets.reproduce.page import Page, provenance
from lets.reproduce.source import Source

_SYSTEM = "lets-pc"


def page(source: Source) -> Page:
    results = source.results
    text = provenance(results, "BERT")
    title = "Searches"
    cells = _first_seeds(results.cells.get(_SYSTEM, {})) if results else {}
    cells = {task: c for task, c in cells.items() if c.details.get("search", {}).get("history")}
    if results is None or not cells:
        return Page("search", title, [*text, "No result cell holds the history of a search."])
    policies = {task: Policy.from_dict(cell.policy) for task, cell in cells.items()}
    notes = {
        task: f"{cell.ops['engine']['new_ops_percent']:.1f}% new operations"
        for task, cell in cells.items()
    }
    pictures = {"architecture": architecture(policies, results.shape.name, notes)}
    pictures |= {
        task: search_picture(task, cell.details["search"]["history"])
        for task, cell in cells.items()
    }
    rows = [
        [
            task, policies[task].input, policies[task].pool,
            str(cell.details["search"]["steps"]), cell.details["search"]["stopped"],
        ]
        for task, cell in cells.items()
    ]  # fmt: skip
    columns = ["task", "input", "pool", "steps", "ended because"]
    data = {task: {"policy": cell.policy, **cell.details["search"]} for task, cell in cells.items()}
    text.append("The first seed of each task; selectors are shown without noise.")
    return Page("search", title, text, [("Policies", columns, rows)], pictures, data)


def _first_seeds(tasks: dict[str, dict[int, Cell]]) -> dict[str, Cell]:
    return {task: seeds[min(seeds)] for task, seeds in tasks.items()}
