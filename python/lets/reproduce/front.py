"""Beyond the paper: score against new operations, from "every layer reads x^p" (about 1%) on."""

from __future__ import annotations

import itertools
from dataclasses import replace

from lets.baselines import DISTILLED
from lets.report.drawing import Drawing
from lets.report.pareto import Choice, pareto_picture
from lets.reproduce.figure5 import choices_of
from lets.reproduce.page import MISSING, Page, mean_text, number, provenance
from lets.reproduce.results import Results
from lets.reproduce.source import Source
from lets.reproduce.summary import REFERENCE, system_summary

_TITLE = "Score against new operations, from 1% on"


def page(source: Source) -> Page:
    results = source.results
    text = provenance(results, "BERT")
    systems = front_systems(results) if results else []
    if results is None or not systems:
        return Page("front", _TITLE, [*text, "No result cell is of a policy with a sparse mask."])
    text.append(
        "lets-d<n>: the top n layers are one chain, and every layer below stands alone on the "
        "frozen encoder, so lets-d1 runs [CLS] rows alone; lets-s<n>: the layers below the chain "
        "are a [CLS] stream; lets-pc: searched, -b<n>: with β = n on the cost, -t<n>: where n% of "
        "the encoder's operations are free; -distill: taught by full fine-tuning. New operations "
        "of a task are in % of the encoder, in the engine's accounting; nine tasks / 9: the frozen "
        "encoder once and nine such tasks, per task. Dashed lines join systems of one name by "
        "depth; the level is that of full fine-tuning."
    )
    lines = [name for name in (REFERENCE, *systems) if name in results.cells]
    shown = {task: choices_of(results, task, lines) for task in results.tasks}
    shown["average"] = _averages(results, lines)
    pictures = {task: _picture(task, found) for task, found in shown.items()
                if any(c.name in systems for c in found)}  # fmt: skip
    columns = [
        "system", "new ops", "nine tasks / 9", "new params", *results.tasks, "average",
        "− full", "95%",
    ]  # fmt: skip
    table = ("Systems by operations", columns, [_row(results, name) for name in lines])
    data = {
        task: {c.name: {"score": c.score, "new_ops_percent": c.ops} for c in found}
        for task, found in shown.items()
    }
    return Page("front", _TITLE, text, [table], pictures, data)


def front_systems(results: Results) -> list[str]:
    """Systems with a policy and a sparse mask, cheapest first."""
    found = [
        name
        for name in results.systems
        if all(cell.policy and cell.params["mask_percent"] for cell in results.of(name))
    ]
    return sorted(found, key=lambda name: results.ops(name, "engine")["new_ops_percent"])


def _averages(results: Results, systems: list[str]) -> list[Choice]:
    """Means over all tasks, of systems that have all."""
    return [
        Choice(
            name, average.value, results.ops(name, "engine")["new_ops_percent"],
            results.params(name)["new_params_percent"], reference=name == REFERENCE,
        )
        for name in systems
        if (average := results.average(name, results.tasks)) is not None
    ]  # fmt: skip


def _picture(task: str, choices: list[Choice]) -> Drawing:
    colored = {c.name: replace(c, color=_color(c.name)) for c in choices}
    links = []
    for name, taught in itertools.product(("lets-d", "lets-s"), ("", DISTILLED)):
        depths = [f"{name}{number}{taught}" for number in range(1, 100)]
        links += list(itertools.pairwise(colored[name] for name in depths if name in colored))
    level = colored[REFERENCE].score if REFERENCE in colored else None
    return pareto_picture(
        list(colored.values()), task, "score", "new operations, % of the encoder",
        links, level, logarithmic=True,
    )  # fmt: skip


def _color(name: str) -> str:
    if name == REFERENCE:
        return "frozen"
    return "cls" if name.endswith(DISTILLED) else "own"


def _row(results: Results, system: str) -> list[str]:
    summary = system_summary(results, system)
    difference = summary["difference_to_full"]
    return [
        system,
        f"{summary['new_ops_percent']['engine']:.1f}%",
        f"{summary['total_percent_per_task']['engine']:.1f}%",
        f"{summary['new_params_percent']:.2f}%",
        *(mean_text(results.score(system, task)) for task in results.tasks),
        mean_text(results.average(system, results.tasks)),
        number(difference and difference["mean"], "{:+.2f}"),
        f"{difference['low']:+.1f} to {difference['high']:+.1f}" if difference else MISSING,
    ]
