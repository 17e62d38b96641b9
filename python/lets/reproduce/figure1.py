"""Figure 1: score against total operations, points as large as their parameters."""

from __future__ import annotations

from itertools import pairwise

from lets.report.pareto import Choice, front, pareto_picture
from lets.reproduce.page import Page, provenance
from lets.reproduce.results import Results
from lets.reproduce.source import Source

_TITLES = {"engine": "in the engine's accounting", "paper": "in the paper's accounting"}


def page(source: Source) -> Page:
    results = source.results
    text = provenance(results, "BERT-large")
    if results is None:
        return Page("figure1", "Figure 1", text)
    choices = {name: _choices(results, name) for name in _TITLES}
    absent = [s for s in results.paper_systems if results.average(s, results.tasks) is None]
    if absent:
        text.append(f"Without an average, and so not drawn: {', '.join(absent)}.")
    text.append(
        "Operations of nine tasks, in % of one dense model; full fine-tuning takes 900%. The "
        "dashed line joins systems that no other beats in score, operations and parameters at once."
    )
    pictures = {
        name: pareto_picture(
            points, f"Average score against total operations, {_TITLES[name]}", "average score",
            "operations of nine tasks, % of the encoder", list(pairwise(front(points))),
        )
        for name, points in choices.items()
        if points
    }  # fmt: skip
    data = {
        name: {
            "systems": {c.name: {"avg": c.score, "total_percent": c.ops} for c in points},
            "front": [c.name for c in front(points)],
        }
        for name, points in choices.items()
    }
    title = f"Figure 1: average score and operations, {', '.join(results.tasks)}"
    return Page("figure1", title, text, pictures=pictures, data=data)


def _choices(results: Results, accounting: str) -> list[Choice]:
    return [
        Choice(
            system, average.value, results.ops(system, accounting)["total_percent"],
            results.params(system)["new_params_percent"], _color(system), system == "full",
        )
        for system in results.paper_systems
        if (average := results.average(system, results.tasks)) is not None
    ]  # fmt: skip


def _color(system: str) -> str:
    return "own" if system.startswith("lets") else "frozen"
