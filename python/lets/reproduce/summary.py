"""`lets reproduce summary`: every system in a line, and its distance from full fine-tuning."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lets.config import ACCOUNTINGS
from lets.reproduce.bootstrap import Difference, paired_difference
from lets.reproduce.page import MISSING, Page, mean_text, number, provenance
from lets.reproduce.results import Results
from lets.reproduce.source import Source

REFERENCE = "full"


def page(source: Source) -> Page:
    results = source.results
    if results is None:
        return Page("summary", "All systems", provenance(None, ""), data={"systems": {}})
    systems = {name: system_summary(results, name) for name in results.systems}
    columns = [
        "system", "average", "− full", "95%", "seeds", "new ops: engine", "paper",
        "nine tasks / 9: engine", "paper", "new params",
    ]  # fmt: skip
    rows = [_row(results, name, summary) for name, summary in systems.items()]
    text = [
        *provenance(results, "BERT"),
        f"The average is over {', '.join(results.tasks)}; a system that lacks one has none. − "
        "full: paired bootstrap over seeds and examples, on the tasks that both have; with one "
        "seed the interval is that of the examples alone. Operations are in "
        "% of the encoder, in the engine's accounting (what runs) and in the paper's; nine tasks "
        "/ 9: the frozen encoder once and nine such tasks, per task.",
    ]
    data = {"systems": systems, "tasks": results.tasks, **results.facts()}
    return Page("summary", "All systems", text, [("Systems", columns, rows)], data=data)


def system_summary(results: Results, system: str) -> dict[str, Any]:
    """One system of `--json`; a score that is not there is null."""
    average = results.average(system, results.tasks)
    scores = {task: results.score(system, task) for task in results.tasks}
    ops = {name: results.ops(system, name) for name in ACCOUNTINGS}
    difference = _difference(results, system)
    return {
        "avg": average.value if average else None,
        "se": average.se if average else None,
        "seeds": min(len(seeds) for seeds in results.cells[system].values()),
        "tasks": {task: asdict(score) if score else None for task, score in scores.items()},
        "missing": results.missing(system),
        "new_ops_percent": {name: part["new_ops_percent"] for name, part in ops.items()},
        "total_percent": {name: part["total_percent"] for name, part in ops.items()},
        "total_percent_per_task": {n: part["total_percent_per_task"] for n, part in ops.items()},
        "max_speedup": {name: part["max_speedup"] for name, part in ops.items()},
        **results.params(system),
        "difference_to_full": asdict(difference) if difference else None,
    }


def _difference(results: Results, system: str) -> Difference | None:
    if system == REFERENCE or REFERENCE not in results.cells:
        return None
    return paired_difference(results.cells[system], results.cells[REFERENCE])


def _row(results: Results, name: str, summary: dict[str, Any]) -> list[str]:
    difference = summary["difference_to_full"]
    interval = MISSING
    if difference:
        interval = f"{difference['low']:+.1f} to {difference['high']:+.1f}"
        if len(difference["tasks"]) < len(results.tasks):
            interval += f" ({', '.join(difference['tasks'])})"
    return [
        name,
        mean_text(results.average(name, results.tasks)),
        number(difference and difference["mean"], "{:+.2f}"),
        interval,
        str(summary["seeds"]),
        *(f"{summary['new_ops_percent'][a]:.1f}%" for a in ACCOUNTINGS),
        *(f"{summary['total_percent_per_task'][a]:.1f}%" for a in ACCOUNTINGS),
        f"{summary['new_params_percent']:.2f}%",
    ]
