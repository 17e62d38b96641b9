"""Operations by input length: what is quadratic in it grows, the share of the rest falls."""

from __future__ import annotations

from typing import Any

from lets.config import ACCOUNTINGS
from lets.cost import check_accounting
from lets.metrics import policy_report
from lets.policy import Policy
from lets.reproduce.cell import NUM_TASKS
from lets.reproduce.page import Page
from lets.reproduce.source import Source
from lets.shape import EncoderShape

_DENSITY, _LENGTHS = 0.005, (64, 128, 512)
_SETS = (
    ("bert-base", "Figure 2(b)", Policy.preset("fig2b", 12)),
    ("bert-base", "LeTS-G-4, all layers", Policy.preset("g-4", 12)),
    ("bert-base", "every layer on x^p", Policy("p" * 12, "f" * 12)),
    ("bert-large", "LeTS-G-4, all layers", Policy.preset("g-4", 24)),
    ("bert-large", "every layer on x^p", Policy("p" * 24, "f" * 24)),
)


def page(source: Source) -> Page:
    rows: list[list[str]] = []
    data: list[dict[str, Any]] = []
    for encoder, name, policy in _SETS:
        shape = EncoderShape.from_name(encoder)
        for length in _LENGTHS:
            reports = {
                accounting: policy_report(
                    shape, [policy] * NUM_TASKS, length, _DENSITY, check_accounting(accounting)
                )
                for accounting in ACCOUNTINGS
            }
            base = reports["engine"].encoder_flops
            head = 100 * reports["engine"].tasks[0].head.flops / base
            metrics = {n: report.metrics for n, report in reports.items()}
            rows.append(
                [
                    encoder, name, str(length), f"{base / 1e9:.2f}",
                    *(f"{metrics[a].new_percent:.2f}%" for a in ACCOUNTINGS),
                    *(f"{metrics[a].total_percent:.1f}%" for a in ACCOUNTINGS),
                    f"{metrics['engine'].max_speedup:.2f}x", f"{head:.3f}%",
                ]
            )  # fmt: skip
            data.append(
                {
                    "encoder": encoder, "policy": name, "seq_len": length, "head_percent": head,
                    "encoder_gflop": base / 1e9,
                    **{n: {"new_percent": m.new_percent, "total_percent": m.total_percent,
                           "max_speedup": m.max_speedup} for n, m in metrics.items()},
                }
            )  # fmt: skip
    columns = [
        "encoder", "policy", "tokens", "encoder GFLOP", "new: engine", "new: paper",
        "nine tasks: engine", "nine tasks: paper", "max speed-up", "head",
    ]  # fmt: skip
    text = [
        f"Computed by `lets.cost` for {NUM_TASKS} tasks of one policy with {100 * _DENSITY:g}% of "
        "the masked weights; nothing here is measured. With longer texts the head and the [CLS] "
        "rows weigh less; attention over all rows, which no policy makes sparse, weighs more.",
    ]
    table = ("Operations in % of the encoder", columns, rows)
    return Page("seqlen", "Operations by input length", text, [table], data={"rows": data})
