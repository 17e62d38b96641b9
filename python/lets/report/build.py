"""What `lets report` knows of a set of packs: one JSON, and the pictures made from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lets.config import ACCOUNTINGS
from lets.errors import LetsError
from lets.metrics import PolicyReport, policy_report
from lets.pack import expand_packs, read_pack
from lets.pack_config import PackConfig
from lets.plan.sources import specs_of_packs
from lets.plan.spec import TaskSpec
from lets.report.architecture import architecture, frozen_layers
from lets.report.breakdown import ops_breakdown, params_breakdown
from lets.report.density import by_matrix, densities, density_map, mask_pictures
from lets.report.drawing import Drawing
from lets.report.history import search_picture
from lets.report.pareto import Choice, front, pareto_picture
from lets.report.runs import Runs, find_runs
from lets.report.savings import param_savings, savings
from lets.report.timeline import by_kind, read_trace, timeline
from lets.shape import POOLER_WIDTHS, EncoderShape
from lets.task import Task


@dataclass(frozen=True)
class Report:
    """Numbers as JSON, and pictures by section and name."""

    data: dict[str, Any]
    pictures: dict[str, Drawing] = field(default_factory=dict)


@dataclass(frozen=True)
class _Source:
    """Everything that was read."""

    shape: EncoderShape
    specs: list[TaskSpec]
    packs: list[tuple[PackConfig, Task]]
    seq_len: int
    runs: Runs


def build_report(
    packs: Sequence[str | Path],
    encoder: str | None = None,
    runs: Sequence[str | Path] = (),
    trace: str | Path | None = None,
    seq_len: int | None = None,
) -> Report:
    """Read packs, and what else is given, into numbers and pictures.

    Args:
        encoder: Folder or built-in shape; default: where the packs say that it is, if it is there.
        runs: Output folders of `lets fit`, for searches and for full fine-tuning's scores.
        trace: File of `lets bench --trace`.
        seq_len: Tokens of a padded text; default: the longest that a pack takes.
    """
    if seq_len is not None and seq_len < 1:
        raise LetsError(f"report: seq-len must be at least 1, got {seq_len}")
    packs = expand_packs(packs)
    read = [read_pack(pack) for pack in packs]
    if encoder is None and read and (Path(read[0][0].encoder["source"]) / "config.json").is_file():
        encoder = read[0][0].encoder["source"]
    shape, specs = specs_of_packs(packs, encoder)
    length = seq_len or max(config.max_length for config, _ in read)
    source = _Source(shape, specs, read, length, find_runs(runs))
    reports = {name: _policy_report(source, name) for name in ACCOUNTINGS}
    data = _data(source, reports, encoder)
    pictures = _pictures(source, data)
    if trace is not None:
        events = read_trace(trace)
        data["timeline_ms"] = by_kind(events)
        pictures["timeline"] = timeline(events)
    return Report(data, pictures)


def _policy_report(source: _Source, accounting: Any) -> PolicyReport:
    return policy_report(
        source.shape, [spec.policy for spec in source.specs], source.seq_len,
        [spec.nnz for spec in source.specs], accounting,
        [spec.num_labels for spec in source.specs], [spec.head for spec in source.specs],
    )  # fmt: skip


def _data(source: _Source, reports: dict[str, PolicyReport], encoder: str | None) -> dict[str, Any]:
    shape = source.shape
    tasks = [_task(source, i, reports) for i in range(len(source.specs))]
    name = source.packs[0][0].encoder["source"] if encoder is None else encoder
    return {
        "encoder": _short(str(name)),
        "encoder_params": shape.num_parameters,
        "embeddings_counted": encoder is not None,
        "num_layers": shape.num_layers,
        "seq_len": source.seq_len,
        "frozen_layers": frozen_layers([spec.policy for spec in source.specs]),
        "tasks": tasks,
        "totals": {name: asdict(report.metrics) for name, report in reports.items()},
        "front": [choice.name for choice in front(_choices(tasks))],
        "full_fine_tuning": source.runs.full,
        "search": {t: run.search for t, run in source.runs.runs.items() if run.search},
    }


def _short(encoder: str) -> str:
    """A name that says more than `model`, as some packages call their folder."""
    path = Path(encoder)
    return path.parent.name if path.name == "model" else path.name


def _task(source: _Source, i: int, reports: dict[str, PolicyReport]) -> dict[str, Any]:
    shape, spec, (config, _) = source.shape, source.specs[i], source.packs[i]
    costs = {name: report.tasks[i].total for name, report in reports.items()}
    dense = reports["paper"].encoder_flops
    layers = (shape, spec.policy, source.seq_len, spec.nnz, spec.num_labels, spec.head)
    params = param_savings(shape, spec.policy, spec.nnz, spec.num_labels, spec.head)
    return {
        "name": spec.name,
        "metric": config.metric,
        "scores": dict(config.results),
        "labels": list(config.labels),
        "max_length": config.max_length,
        "policy": spec.policy.to_dict(),
        "cases": [str(case) for case in spec.policy.cases],
        "new_ops_percent": {name: 100 * cost.flops / dense for name, cost in costs.items()},
        "new_params": costs["paper"].params,
        "new_params_percent": 100 * costs["paper"].params / shape.num_parameters,
        "mask_percent": 100 * params.non_zeros / shape.num_parameters,
        "savings_percent": savings(*layers).percent(),
        "param_savings_percent": params.percent(shape.num_parameters),
        "density": densities(shape, spec.nnz),
    }


def _choices(tasks: list[dict[str, Any]]) -> list[Choice]:
    """Tasks that know their score."""
    return [
        Choice(
            task["name"], 100 * next(iter(task["scores"].values())),
            task["new_ops_percent"]["engine"], task["new_params_percent"],
        )
        for task in tasks
        if task["scores"]
    ]  # fmt: skip


def _pictures(source: _Source, data: dict[str, Any]) -> dict[str, Drawing]:
    tasks, shape, specs = data["tasks"], source.shape, source.specs
    notes = {t["name"]: f"{t['new_ops_percent']['engine']:.1f}% new operations" for t in tasks}
    sizes = [(shape, s.policy, source.seq_len, s.nnz, s.num_labels, s.head) for s in specs]
    pictures = {
        "architecture": architecture(
            {s.name: s.policy for s in specs},
            data["encoder"],
            notes,
            [s.name for s in specs if s.head == POOLER_WIDTHS],
        ),
        "operations": ops_breakdown({s.name: savings(*z) for s, z in zip(specs, sizes)}),
        "parameters": params_breakdown(
            {s.name: param_savings(shape, s.policy, s.nnz, s.num_labels, s.head) for s in specs},
            shape.num_parameters,
        ),
    }
    if choices := _choices(tasks):
        full = {
            name: Choice(f"{name}, full", 100 * score, 100.0, 100.0, "muted", reference=True)
            for name, score in source.runs.full.items()
        }
        pictures["pareto"] = pareto_picture(
            [*full.values(), *choices],
            "Score against operations; the area of a point is its parameters",
            "score", "new operations, % of the encoder",
            [(choice, full[choice.name]) for choice in choices if choice.name in full],
        )  # fmt: skip
    pictures["density"] = density_map({task["name"]: task["density"] for task in tasks})
    for spec, (_, task) in zip(specs, source.packs):
        kept = {j: nnz.total for j, nnz in spec.nnz.items() if nnz is not None and nnz.total}
        if kept:
            densest = max(kept, key=lambda j: kept[j])
            layouts = {name: delta.layout for name, delta in task.deltas[densest].items()}
            title = f"Masks of {spec.name} in its densest layer, {densest}"
            pictures[f"mask-{spec.name}"] = mask_pictures(title, by_matrix(layouts))
    for name, history in data["search"].items():
        pictures[f"search-{name}"] = search_picture(name, history)
    return pictures
