"""Result cells by system, task and seed; means and standard errors of what they hold."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lets.baselines import is_beyond
from lets.cost import check_accounting, encoder_flops
from lets.errors import LetsError
from lets.policy import Policy
from lets.policy_cost import frozen_cost
from lets.reproduce.cell import NUM_TASKS, Cell
from lets.shape import EncoderShape

# Rows of tables in this order; a task that GLUE does not have comes last.
TASKS = ("qnli", "sst-2", "mnli-m", "mnli-mm", "cola", "mrpc", "sts-b", "rte", "qqp", "wnli")


@dataclass(frozen=True)
class Mean:
    """A mean in percent; its standard error needs two values."""

    value: float
    se: float | None
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        count = len(values)
        se = statistics.stdev(values) / math.sqrt(count) if count > 1 else None
        return cls(statistics.fmean(values), se, count)


class Results:
    """The cells of one encoder and recipe."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells: dict[str, dict[str, dict[int, Cell]]] = {}
        for cell in cells:
            self.cells.setdefault(cell.system, {}).setdefault(cell.task, {})[cell.seed] = cell
        if not self.cells:
            raise LetsError("reproduce: there must be at least one result cell")
        self.first = cells[0]

    @property
    def systems(self) -> list[str]:
        """Full fine-tuning first, then by name."""
        return sorted(self.cells, key=lambda name: (name != "full", name))

    @property
    def paper_systems(self) -> list[str]:
        """Those that the paper's own tables and figures may show."""
        return [name for name in self.systems if not is_beyond(name)]

    @cached_property
    def tasks(self) -> list[str]:
        """Every task that some system has, in the paper's order."""
        found = {task for by_task in self.cells.values() for task in by_task}
        order = {name: i for i, name in enumerate(TASKS)}
        return sorted(found, key=lambda name: (order.get(name, len(order)), name))

    @property
    def shape(self) -> EncoderShape:
        sizes = {k: v for k, v in self.first.encoder.items() if k != "fingerprint"}
        return EncoderShape(**sizes)

    @property
    def seq_len(self) -> int:
        return int(self.first.settings["max_seq_length"])

    def of(self, system: str) -> list[Cell]:
        """All cells of a system."""
        return [cell for seeds in self.cells.get(system, {}).values() for cell in seeds.values()]

    def score(self, system: str, task: str) -> Mean | None:
        """Dev score in percent over the seeds there are."""
        seeds = self.cells.get(system, {}).get(task)
        return Mean.of([100 * cell.score for cell in seeds.values()]) if seeds else None

    def average(self, system: str, tasks: Sequence[str]) -> Mean | None:
        """Mean over tasks; None where one is missing. Tasks' errors are independent.

        `count` is the smallest number of seeds.
        """
        scores = [self.score(system, task) for task in tasks]
        known = [score for score in scores if score is not None]
        if not known or len(known) < len(tasks):
            return None
        errors = [score.se for score in known if score.se is not None]
        se = (
            math.sqrt(sum(e * e for e in errors)) / len(known)
            if len(errors) == len(known)
            else None
        )
        value = statistics.fmean(score.value for score in known)
        return Mean(value, se, min(score.count for score in known))

    def missing(self, system: str) -> list[str]:
        return [task for task in self.tasks if task not in self.cells.get(system, {})]

    def ops(self, system: str, accounting: str) -> dict[str, float]:
        """Operations in % of the encoder, of nine tasks whose mean is that of those there are.

        The frozen layers are those that all of the system's policies need together.
        """
        cells = self.of(system)
        parts = [cell.ops[accounting] for cell in cells]
        new = statistics.fmean(part["new_ops_percent"] for part in parts)
        # The longest chain and head of a task, out of the speed-up of nine tasks like it.
        critical = statistics.fmean(
            (100 * NUM_TASKS / part["max_speedup"] - part["overhead_percent"]) / NUM_TASKS
            for part in parts
        )
        overhead = self._overhead(cells, accounting)
        total = overhead + NUM_TASKS * new
        return {
            "new_ops_percent": new,
            "overhead_percent": overhead,
            "total_percent": total,
            "total_percent_per_task": total / NUM_TASKS,
            "max_speedup": 100 * NUM_TASKS / (overhead + NUM_TASKS * critical),
        }

    def params(self, system: str) -> dict[str, float]:
        """New parameters in % of the encoder, and all of nine tasks as a ratio."""
        parts = [cell.params for cell in self.of(system)]
        new = statistics.fmean(part["new_params_percent"] for part in parts)
        shared = parts[0]["total_params_ratio"] - NUM_TASKS * parts[0]["new_params_percent"] / 100
        return {
            "new_params_percent": new,
            "mask_percent": statistics.fmean(part["mask_percent"] for part in parts),
            "total_params_ratio": round(shared) + NUM_TASKS * new / 100,
        }

    def _overhead(self, cells: Sequence[Cell], accounting: str) -> float:
        most = max(cell.ops[accounting]["overhead_percent"] for cell in cells)
        policies = [Policy.from_dict(cell.policy) for cell in cells if cell.policy is not None]
        if most == 0 or len(policies) < len(cells):
            return most  # no frozen encoder, or one that is the same for all tasks
        frozen = frozen_cost(self.shape, self.seq_len, policies, check_accounting(accounting))
        return max(most, 100 * frozen.total.flops / encoder_flops(self.shape, self.seq_len))

    def facts(self) -> dict[str, Any]:
        """What every page says of where its numbers come from."""
        cells = [cell for system in self.systems for cell in self.of(system)]
        return {
            "encoder": self.first.encoder["name"],
            "recipe": self.first.recipe,
            "max_seq_length": self.seq_len,
            "seeds": sorted({cell.seed for cell in cells}),
            "cells": len(cells),
            "machines": sorted({_machine(cell) for cell in cells}),
            "commits": sorted({str(cell.environment.get("commit", "?")) for cell in cells}),
            "rows": {task: self._rows(task) for task in self.tasks},
        }

    def _rows(self, task: str) -> dict[str, int]:
        return next(
            cell.rows for by_task in self.cells.values() for cell in by_task.get(task, {}).values()
        )


def select(cells: Sequence[Cell], encoder: str | None = None) -> Results:
    """The cells of one encoder and recipe: of the encoder named, or those that are most."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        if encoder in (None, cell.encoder["name"]):
            key = (cell.encoder["name"], cell.encoder["fingerprint"], cell.recipe)
            groups.setdefault(key, []).append(cell)
    if not groups:
        names = sorted({cell.encoder["name"] for cell in cells})
        raise LetsError(f"reproduce: no result cell of {encoder}; there are {', '.join(names)}")
    return Results(max(groups.values(), key=len))


def _machine(cell: Cell) -> str:
    found = cell.environment
    device = found.get("device", "?")
    return str(found.get("machine", "?")) + ("" if device == "cpu" else f", {device}")
