"""Training time of every system and stage, beside full fine-tuning."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from lets.reproduce.page import MISSING, Page, provenance
from lets.reproduce.results import Results
from lets.reproduce.source import Source


def page(source: Source) -> Page:
    results = source.results
    text = provenance(results, "BERT-large")
    title = "Training time"
    if results is None:
        return Page("overheads", title, text)
    text.append(
        "Seconds of training of one task, means over the tasks and seeds there are; the ratio is "
        "against full fine-tuning of the same tasks and seeds, taken cell by cell. The processes "
        "of a grid may share the machine, so ratios mean more than seconds. A search is done once "
        "per task and seed, and counted in every system that uses it. The paper: final fine-tuning "
        "1.5 to 2.5 times as long, a search of one day on four V100 per task. Memory of a training "
        "step: docs/benchmarks.md."
    )
    systems = {name: _times(results, name) for name in results.systems}
    stages = list(dict.fromkeys(stage for part in systems.values() for stage in part["stages"]))
    rows = [
        [
            name,
            *(f"{p['stages'][s]:.0f}" if s in p["stages"] else MISSING for s in stages),
            f"{p['seconds']:.0f}",
            MISSING if p["ratio"] is None else f"{p['ratio']:.2f}x",
        ]
        for name, p in systems.items()
    ]
    table = ("Seconds per task", ["system", *stages, "all", "of full"], rows)
    return Page("overheads", title, text, [table], data={"systems": systems})


def _times(results: Results, system: str) -> dict[str, Any]:
    cells = results.of(system)
    stages = dict.fromkeys(stage for cell in cells for stage in cell.seconds)
    full = results.cells.get("full", {})
    ratios = [
        sum(cell.seconds.values()) / sum(full[cell.task][cell.seed].seconds.values())
        for cell in cells
        if cell.seed in full.get(cell.task, {})
    ]
    return {
        "stages": {s: fmean(cell.seconds.get(s, 0.0) for cell in cells) for s in stages},
        "seconds": fmean(sum(cell.seconds.values()) for cell in cells),
        "ratio": fmean(ratios) if ratios else None,
        "cells": len(cells),
    }
