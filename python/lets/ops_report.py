"""The report of `lets ops` as data, and as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lets.cost import check_accounting
from lets.errors import LetsError
from lets.metrics import policy_report
from lets.nnz import kept_weights
from lets.policy import Policy
from lets.policy_cost import TaskCost
from lets.shape import EncoderShape

_GIGA = 1e9


def ops_report(
    encoder: str,
    policies: Sequence[str],
    seq_len: int,
    density: float,
    accounting: str,
    num_labels: int = 2,
) -> dict[str, Any]:
    """Costs of each policy and metrics of the set, in GFLOP and in % of the encoder."""
    check_sizes(seq_len, density, num_labels)
    if not policies:
        raise LetsError("ops: policy must be given at least once, or system")
    checked = check_accounting(accounting)
    shape = EncoderShape.from_name(encoder)
    parsed = [Policy.from_spec(spec, shape.num_layers, encoder) for spec in policies]
    result = policy_report(shape, parsed, seq_len, density, checked, num_labels)
    metrics = result.metrics
    return {
        "encoder": encoder,
        "seq_len": seq_len,
        "density": density,
        "accounting": accounting,
        "encoder_gflop": result.encoder_flops / _GIGA,
        "encoder_params": shape.num_parameters,
        "tasks": [
            {"policy": spec, **_task(task, result.encoder_flops, shape.num_parameters)}
            for spec, task in zip(policies, result.tasks, strict=True)
        ],
        "new_percent": metrics.new_percent,
        "overhead_gflop": result.overhead / _GIGA,
        "overhead_percent": metrics.overhead_percent,
        "total_percent": metrics.total_percent,
        "total_params_ratio": metrics.total_params_ratio,
        "max_speedup": metrics.max_speedup,
        "schedule_speedup": metrics.schedule_speedup,
    }


def check_sizes(seq_len: int, density: float, num_labels: int) -> None:
    """Raise a LetsError for sizes that nothing can have."""
    for name, value in (("seq-len", seq_len), ("num-labels", num_labels)):
        if value < 1:
            raise LetsError(f"ops: {name} must be at least 1, got {value}")
    kept_weights(density, 1)  # refuses a density outside (0, 1] also if no layer is live


def _task(task: TaskCost, encoder_flops: int, encoder_params: int) -> dict[str, Any]:
    total = task.total
    return {
        **task.policy.to_dict(),
        "new_gflop": total.flops / _GIGA,
        "new_percent": 100 * total.flops / encoder_flops,
        "new_params": total.params,
        "new_params_percent": 100 * total.params / encoder_params,
        "mask_percent": 100 * task.nnz / encoder_params,
        "head_gflop": task.head.flops / _GIGA,
        "layers": [
            {"case": str(case), "gflop": cost.flops / _GIGA}
            for case, cost in zip(task.policy.cases, task.layers, strict=True)
        ],
    }


def ops_tables(report: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows of each table."""
    tasks, base = report["tasks"], report["encoder_gflop"]
    cases = (
        f"Layers of {report['encoder']}, bottom first",
        ["policy", "case of each layer"],
        [[task["policy"], " ".join(layer["case"] for layer in task["layers"])] for task in tasks],
    )
    costs = (
        f"New per task ({report['accounting']} accounting, {report['seq_len']} tokens, "
        f"density {report['density']:g}; encoder {base:.2f} GFLOP)",
        ["policy", "GFLOP", "% of encoder", "parameters", "% of encoder", "mask %"],
        [
            [
                task["policy"],
                f"{task['new_gflop']:.3f}",
                f"{task['new_percent']:.1f}",
                f"{task['new_params']:,}",
                f"{task['new_params_percent']:.2f}",
                f"{task['mask_percent']:.2f}",
            ]
            for task in tasks
        ],
    )
    summary = (
        f"All {len(tasks)} tasks",
        ["frozen encoder", "total", "parameters", "max speed-up", "schedule speed-up"],
        [
            [
                f"{report['overhead_percent']:.1f}%",
                f"{report['total_percent']:.1f}%",
                f"{report['total_params_ratio']:.3f}x",
                f"{report['max_speedup']:.2f}x",
                f"{report['schedule_speedup']:.2f}x",
            ]
        ],
    )
    return [cases, costs, summary]
