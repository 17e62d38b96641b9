"""Tables 1 to 3: the paper's rows beside computed costs, and the same systems measured here."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from lets.reproduce.analytic import analytic
from lets.reproduce.page import MISSING, Page, TableText, mean_text, number, provenance
from lets.reproduce.published import paper
from lets.reproduce.results import TASKS, Results
from lets.reproduce.source import Source

# What the paper prints, how we call it, and how it looks.
_COSTS = (
    ("max speed-up", "max_speedup", "max_speedup", "{:.2f}x"),
    ("new ops/task", "new_ops_percent", "new_percent", "{:.1f}%"),
    ("total ops", "total_percent", "total_percent", "{:.1f}%"),
    ("total params", "total_params_ratio", "total_params_ratio", "{:.2f}x"),
    ("new params/task", "new_params_percent", "new_params_percent", "{:.2f}%"),
)

# Systems on the ordinary architecture; LeTS-(p) is the only variant of LeTS among them.
_ORDINARY = r"full|bitfit|diff-.*|adapters.*|lora|shira|lets-p"


def table1(source: Source) -> Page:
    return _page("table1", "Table 1: parameter sharing on BERT-large", source, ".*")


def table2(source: Source) -> Page:
    title = "Table 2: Delta-Pruning on the ordinary architecture, BERT-large"
    return _page("table2", title, source, _ORDINARY)


def table3(source: Source) -> Page:
    title = "Table 3: BERT-base and compressed encoders"
    return _page("table3", title, source, "full|lets-.*")


def _page(name: str, title: str, source: Source, systems: str) -> Page:
    """One of the paper's tables.

    Args:
        systems: Names, as a pattern, of those to show of the paper's that were measured here.
    """
    numbers = paper()
    published = numbers[name]
    encoder, results = published["encoder"], source.results
    measured = None
    if results is not None:
        shown = [s for s in results.paper_systems if re.fullmatch(systems, s)]
        measured = _measured(results, shown) if shown else None
    text = [
        *provenance(results, encoder),
        f"Paper: {numbers['source']}. Computed: nine tasks on {encoder} at 128 tokens in the "
        "paper's accounting, by `lets.cost`; the paper's number stands in parentheses. "
        f"{MISSING}: not computable, because the paper does not print the searched policies. "
        "LeTS-G-g is computed with all layers alive; the paper's searches bypassed some. New "
        "parameters leave out the ordinary head, and count biases, LayerNorms and the layer-wise "
        "head of LeTS. A compressed encoder is one per task; MobileBERT is computed from its own "
        "structure, which does not give the paper's 71.7%, nor TinyBERT-4's its 9.40x. How "
        "measured times relate to operations: docs/benchmarks.md.",
    ]
    tables = [_computed(published), _scores(published)]
    if measured:
        tables.append(measured)
    computed = [(row["label"], _metrics(row, encoder) or {}) for row in published["rows"]]
    data = {
        "paper": published,
        "computed": {
            label: {accounting: asdict(m) for accounting, m in metrics.items()}
            for label, metrics in computed
        },
    }
    return Page(name, title, text, tables, data=data)


def _metrics(row: dict[str, Any], encoder: str) -> Any:
    return analytic(row["system"], encoder, row.get("density", 0.005))


def _computed(published: dict[str, Any]) -> TableText:
    costs = [cost for cost in _COSTS if cost[1] in published["rows"][0]]
    rows = []
    for row in published["rows"]:
        found = _metrics(row, published["encoder"])
        cells = [row["label"]]
        for _, key, attribute, form in costs:
            ours = number(found and getattr(found["paper"], attribute), form)
            cells.append(f"{ours} ({form.format(row[key])})")
        engine = found["engine"].total_percent if found else None
        rows.append([*cells, number(engine, "{:.1f}%")])
    columns = ["system", *(title for title, *_ in costs), "total ops, engine's accounting"]
    return "Costs, computed (and in the paper)", columns, rows


def _scores(published: dict[str, Any]) -> TableText:
    tasks = list(published["rows"][0]["scores"])
    rows = [
        [row["label"], *(number(row["scores"][task]) for task in tasks), number(row["avg"])]
        for row in published["rows"]
    ]
    return f"Scores in the paper, GLUE {published['split']}", ["system", *tasks, "avg"], rows


def _measured(results: Results, systems: list[str]) -> TableText:
    tasks = [task for task in TASKS if task in results.tasks]
    rows = []
    for system in systems:
        ops, params = results.ops(system, "paper"), results.params(system)
        engine = results.ops(system, "engine")
        rows.append(
            [
                system,
                f"{ops['max_speedup']:.2f}x",
                f"{ops['new_ops_percent']:.1f}%",
                f"{ops['total_percent']:.1f}%",
                f"{engine['total_percent']:.1f}%",
                f"{params['total_params_ratio']:.2f}x",
                f"{params['new_params_percent']:.2f}%",
                *(mean_text(results.score(system, task)) for task in tasks),
                mean_text(results.average(system, tasks)),
            ]
        )
    columns = [
        "system", "max speed-up", "new ops/task", "total ops", "total ops, engine",
        "total params", "new params/task", *tasks, "avg",
    ]  # fmt: skip
    return f"Measured here, {results.shape.name}", columns, rows
