"""Rows of a benchmark, and the facts without which they mean nothing."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lets.bench.measure import Timing
from lets_ext import env

_MS = 1e3


@dataclass(frozen=True)
class Row:
    """One baseline beside the engine at one point; milliseconds for all tasks.

    Args:
        ratio: baseline_ms / lets_ms; None where an answer was wrong, which `error` tells.
        flop_ratio: What the operations of both sides predict for it.
        max_abs_diff: Logits of the engine, against a plain evaluation of the same packs.
        baseline_max_abs_diff: Logits of the baseline, against eager torch.
        quantization: Of the engine's frozen matrices: its answers are approximate then, and
            `max_abs_diff` says by how much.
        models: Distinct dense models in memory. Fewer than tasks: so many passes were timed and
            the time scaled (`scaled`).
        baseline_iqr_ms, lets_iqr_ms: Distance of the quartiles over the rounds.
    """

    baseline: str
    encoder: str
    policy: str
    tasks: int
    batch: int
    seq_len: int
    dtype: str
    mode: str
    threads: int
    flop_ratio: float
    max_abs_diff: float
    baseline_max_abs_diff: float
    models: int
    baseline_ms: float | None = None
    lets_ms: float | None = None
    ratio: float | None = None
    baseline_iqr_ms: float | None = None
    lets_iqr_ms: float | None = None
    rounds: int = 0
    scaled: bool = False
    error: str | None = None
    quantization: str | None = None

    @classmethod
    def of(cls, common: dict[str, Any], dense: Timing, lets: Timing, scale: float) -> Row:
        """A measured row.

        Args:
            scale: Tasks per timed pass.
        """
        return cls(
            **common,
            baseline_ms=_MS * scale * dense.median,
            lets_ms=_MS * lets.median,
            ratio=scale * dense.median / lets.median,
            baseline_iqr_ms=_MS * scale * (dense.high - dense.low),
            lets_iqr_ms=_MS * (lets.high - lets.low),
            rounds=lets.rounds,
            scaled=scale > 1,
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON, which has no NaN: a difference that is not finite is null."""
        return {
            name: None if isinstance(value, float) and value - value != 0 else value
            for name, value in asdict(self).items()
        }

    def line(self) -> str:
        """For people who wait."""
        where = f"{self.baseline}, {self.policy}, T={self.tasks} B={self.batch} L={self.seq_len}"
        if self.ratio is None:
            return f"{where}: {self.error}"
        return (
            f"{where}: {self.baseline_ms:.1f} ms / {self.lets_ms:.1f} ms = {self.ratio:.2f} "
            f"(FLOPs {self.flop_ratio:.2f}){self._approximate()}"
        )

    def _approximate(self) -> str:
        if self.quantization is None:
            return ""
        return f", approximate ({self.quantization}): logits differ by {self.max_abs_diff:.1e}"


COLUMNS = (
    "baseline", "policy", "tasks", "batch", "seq_len",
    "baseline ms", "LeTS ms", "ratio", "FLOPs predict", "max diff",
)  # fmt: skip


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Cells under COLUMNS; a row with a wrong answer has no times."""
    return [
        [
            row.baseline, row.policy, str(row.tasks), str(row.batch), str(row.seq_len),
            _number(row.baseline_ms, ".1f"), _number(row.lets_ms, ".1f"),
            _number(row.ratio, ".2f"), f"{row.flop_ratio:.2f}", difference(row),
        ]
        for row in rows
    ]  # fmt: skip


def difference(row: Row) -> str:
    """The engine's largest difference; of rounded matrices it is no error, and marked."""
    mark = "" if row.quantization is None else f" ({row.quantization})"
    return f"{row.max_abs_diff:.0e}{mark}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def facts() -> dict[str, Any]:
    """Where and of what the numbers are."""
    return {"machine": machine(), "commit": commit(), "environment": env.report()}


def machine() -> str:
    """Short name of the processor and of how many threads there are."""
    name = platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found.group(1) if found else name
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{slug}-{torch.get_num_threads()}t-{env.selected_isa()}"


def commit() -> str | None:
    """Of the source tree that this file lies in, if it is one."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
