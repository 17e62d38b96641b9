"""From inputs to what is computed, and from its outputs to what a client reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from lets.run.output import TaskOutput
from lets.run.work import Input
from lets.scores import REGRESSION
from lets.serve.costs import Costs
from lets.serve.errors import VALIDATION, ApiError
from lets.serve.job import Job
from lets.task import Task

_GIGA, _MS = 1e9, 1e3


def read_inputs(inputs: str | Sequence[Any], pairs: bool | None) -> tuple[list[Input], bool]:
    """The texts or pairs of a request, and whether it was one input rather than a list.

    Args:
        pairs: Whether the tasks take pairs; None where that is not known: a list is one of texts.
    """
    if isinstance(inputs, str):
        return [inputs], True
    if all(isinstance(item, str) for item in inputs):
        if pairs and len(inputs) == 2:
            return [(inputs[0], inputs[1])], True
        return list(inputs), False
    return [_sequence(item, i) for i, item in enumerate(inputs)], False


def _sequence(item: Sequence[str], position: int) -> Input:
    if len(item) not in (1, 2):
        raise ApiError(
            422, VALIDATION, "inputs",
            f"`inputs`[{position}] must be [text] or [text, text], got {len(item)} strings",
        )  # fmt: skip
    return item[0] if len(item) == 1 else (item[0], item[1])


def predictions(output: TaskOutput, name: str, task: Task, raw: bool) -> list[list[dict[str, Any]]]:
    """Per text every label with its score, the best first, as text-embeddings-inference does."""
    rows = _values(output, task, raw).tolist()
    labels = task.labels or (name,)
    return [
        [
            {"score": score, "label": label}
            for score, label in sorted(zip(row, labels), key=lambda pair: -pair[0])
        ]
        for row in rows
    ]


def answers(
    outputs: Mapping[str, TaskOutput], job: Job, raw: bool, every: bool
) -> list[dict[str, dict[str, Any]]]:
    """Per text the answer of each task."""
    count = max(job.counts.values(), default=0)
    results: list[dict[str, dict[str, Any]]] = [{} for _ in range(count)]
    for name, output in outputs.items():
        task = job.loaded.tasks[name]
        for result, row in zip(results, _values(output, task, raw).tolist()):
            score = max(row)
            label = task.labels[row.index(score)] if task.labels else None
            result[name] = {"label": label, "score": score}
            if every and task.labels:
                result[name]["scores"] = dict(zip(task.labels, row))
    return results


def _values(output: TaskOutput, task: Task, raw: bool) -> Tensor:
    if output.error is not None:  # not finite: nothing that a client could mend
        raise ApiError(500, "Backend", "not_finite", output.error)
    return output.logits if raw or task.problem_type == REGRESSION else output.probabilities


def usage(job: Job, seconds: float) -> dict[str, Any]:
    return {
        "texts": max(job.counts.values(), default=0),
        "tokens": job.tokens,
        "queue_ms": round(_MS * job.queue_seconds, 3),
        "engine_ms": round(_MS * job.engine_seconds, 3),
        "total_ms": round(_MS * seconds, 3),
        "batch_rows": job.batch_rows,
    }


def call_cost(job: Job, costs: Costs) -> dict[str, float]:
    """Operations of a job's texts, as if nobody else's were there."""
    shared = own = dense = 0
    for row in job.rows:
        names = tuple(dict.fromkeys(task for task, _ in row.slots))
        one = costs.flops(job.loaded, names, row.length)
        shared, own, dense = shared + one.shared, own + one.own, dense + one.dense
    return {
        "shared_gflop": shared / _GIGA,
        "own_gflop": own / _GIGA,
        "dense_gflop": dense / _GIGA,
    }
