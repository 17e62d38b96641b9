"""Figure 5: score of each task against the operations that a system adds for it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from lets.report.drawing import Drawing
from lets.report.pareto import Choice, pareto_picture
from lets.reproduce.page import Page, provenance
from lets.reproduce.results import Results
from lets.reproduce.source import Source


def page(source: Source) -> Page:
    results = source.results
    text = provenance(results, "BERT-base")
    if results is None:
        return Page("figure5", "Figure 5", text)
    text.append(
        "New operations of the task in the engine's accounting, without the frozen encoder that "
        "all tasks share. A point is the mean over the seeds of a system."
    )
    points = {task: choices_of(results, task, results.paper_systems) for task in results.tasks}
    data = {
        task: {c.name: {"score": c.score, "new_ops_percent": c.ops} for c in choices}
        for task, choices in points.items()
    }
    pictures = {task: _picture(task, choices) for task, choices in points.items() if choices}
    return Page("figure5", "Figure 5: score against new operations", text, (), pictures, data)


def choices_of(results: Results, task: str, systems: Sequence[str]) -> list[Choice]:
    """Those of the systems that have the task."""
    found = []
    for system in systems:
        score = results.score(system, task)
        if score is None:
            continue
        cells = results.cells[system][task].values()
        ops = fmean(cell.ops["engine"]["new_ops_percent"] for cell in cells)
        params = fmean(cell.params["new_params_percent"] for cell in cells)
        color = "own" if system.startswith("lets") else "frozen"
        found.append(Choice(system, score.value, ops, params, color, system == "full"))
    return found


def _picture(task: str, choices: list[Choice]) -> Drawing:
    return pareto_picture(choices, task, "score", "new operations, % of the encoder")
