"""`lets ops --system`: the analytic columns of the paper's tables, for systems by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lets.baselines import system_costs
from lets.baselines.base import Sizes
from lets.cost import check_accounting, encoder_flops
from lets.errors import LetsError
from lets.ops_report import check_sizes
from lets.policy import Policy
from lets.shape import EncoderShape

NUM_TASKS = 9  # of the paper's tables


def systems_report(
    encoder: str,
    systems: Sequence[str],
    policies: Sequence[str],
    seq_len: int,
    density: float,
    accounting: str,
    num_labels: int = 2,
) -> dict[str, Any]:
    """What nine tasks of each system cost, in % of the encoder.

    Args:
        policies: At most one: of LeTS-(p,c) and LeTS-(c).
    """
    check_sizes(seq_len, density, num_labels)
    if len(policies) > 1:
        raise LetsError(f"ops: systems take one policy at most, got {len(policies)}")
    shape, checked = EncoderShape.from_name(encoder), check_accounting(accounting)
    policy = Policy.from_spec(policies[0], shape.num_layers, encoder) if policies else None
    sizes = Sizes(shape, seq_len, num_labels, density, policy)
    dense = encoder_flops(shape, seq_len)
    rows = {}
    for name in systems:
        cost = system_costs(name, sizes)[checked]
        found = cost.metrics(dense, shape, NUM_TASKS)
        rows[name] = {
            "new_ops_percent": found.new_percent,
            "overhead_percent": found.overhead_percent,
            "total_percent": found.total_percent,
            "max_speedup": found.max_speedup,
            "total_params_ratio": found.total_params_ratio,
            "new_params": cost.load.new_params,
            "new_params_percent": found.new_params_percent,
            "mask_percent": found.mask_percent,
        }
    return {
        "encoder": encoder,
        "seq_len": seq_len,
        "density": density,
        "accounting": accounting,
        "num_tasks": NUM_TASKS,
        "systems": rows,
    }


def systems_table(report: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Title, columns and rows."""
    title = (
        f"{report['num_tasks']} tasks on {report['encoder']} ({report['accounting']} accounting, "
        f"{report['seq_len']} tokens, density {report['density']:g})"
    )
    columns = ["system", "max speed-up", "new ops %", "total ops %", "parameters", "new params %"]
    rows = [
        [
            name,
            f"{row['max_speedup']:.2f}x",
            f"{row['new_ops_percent']:.1f}",
            f"{row['total_percent']:.1f}",
            f"{row['total_params_ratio']:.2f}x",
            f"{row['new_params_percent']:.2f}",
        ]
        for name, row in report["systems"].items()
    ]
    return title, columns, rows
