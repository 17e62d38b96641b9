"""One run: every baseline at every point beside the engine, rows as they come."""

from __future__ import annotations

import contextlib
import gc
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from lets.bench.baselines import Baseline, Dense, baseline_class, is_strict
from lets.bench.baselines.base import as_inputs
from lets.bench.baselines.cls_last import check_cls_last, with_cls_last
from lets.bench.check import Difference
from lets.bench.measure import interleaved
from lets.bench.ours import Ours
from lets.bench.prediction import flop_ratio
from lets.bench.problem import dense_classifier, random_batch
from lets.bench.report import Row
from lets.bench.settings import BenchSettings
from lets.precision import tolerance

Note = Callable[[str], None]
_GIGA = 1e9


@dataclass(frozen=True)
class Point:
    policy: str
    tasks: int
    batch: int
    seq_len: int


@dataclass
class Outcome:
    """Rows, and what was asked for and could not be measured."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)


def run_bench(
    settings: BenchSettings,
    note: Note = lambda _: None,
    trace: Path | None = None,
    earlier: Sequence[Row] = (),
    keep: Callable[[Outcome], object] = lambda _: None,
) -> Outcome:
    """Measure.

    One baseline at a time is in memory, and the engine is timed anew in turn with it.

    Args:
        note: Gets a line per row and per skipped baseline.
        trace: Also write a Chrome trace of one engine call at the first point.
        earlier: Rows of these settings that are not measured again.
        keep: Gets all rows so far after each of them, so that an interrupted run can go on.
    """
    outcome = Outcome(list(earlier))
    with threads(settings.threads), tempfile.TemporaryDirectory() as folder:
        ours = Ours(settings)
        if trace is not None:
            from lets.bench.trace import write_trace

            first = next(_points(ours))
            tokens = random_batch(ours.encoder, first.batch, first.seq_len)
            write_trace(ours.call(first.policy, first.tasks, tokens), trace)
        plain = dense_classifier(
            settings.encoder, settings.seed, settings.torch_dtype, settings.device
        )
        if any(map(is_strict, settings.all_baselines())):
            check_cls_last(plain)
        for name in settings.all_baselines():
            model = with_cls_last(plain) if is_strict(name) else plain
            dense = Dense(
                model, plain, torch.get_num_threads(), Path(folder) / name, settings.quantization
            )
            _run_baseline(name, dense, ours, outcome, note, keep)
    return outcome


def _run_baseline(
    name: str,
    dense: Dense,
    ours: Ours,
    outcome: Outcome,
    note: Note,
    keep: Callable[[Outcome], object],
) -> None:
    kind, settings = baseline_class(name), ours.settings
    known = {
        Point(row.policy, row.tasks, row.batch, row.seq_len)
        for row in outcome.rows
        if row.baseline == name
    }
    points = [point for point in _points(ours) if point not in known]
    if not points:
        return

    def skip(reason: str) -> None:
        outcome.skipped.append({"baseline": name, "reason": reason})
        note(f"{name}: skipped, {reason}")

    reason = kind.unavailable(dense)
    if reason is not None:
        skip(reason)
        return
    fit = max(1, math.floor(settings.max_memory * _GIGA / dense.bytes))
    wanted = max(settings.tasks)
    if kind.apart:
        wanted = min(wanted, settings.max_models)
    baseline = kind(dense, min(wanted, fit))
    try:
        for point in points:
            if not kind.apart and point.tasks > baseline.models:
                skip(f"{point.tasks} models do not fit into {settings.max_memory:g} GB")
                continue
            row = _measure(name, baseline, ours, point)
            outcome.rows.append(row)
            note(row.line())
            keep(outcome)
    finally:
        baseline.close()
        del baseline
        gc.collect()


def _measure(name: str, baseline: Baseline, ours: Ours, point: Point) -> Row:
    settings = ours.settings
    tokens = random_batch(ours.encoder, point.batch, point.seq_len)
    inputs = as_inputs(tokens)
    passes = min(point.tasks, baseline.models)
    dense = baseline.prepare(passes, inputs)
    found = dense()
    allowed = tolerance(settings.torch_dtype)
    own_allowed = tolerance(settings.torch_dtype, settings.quantization)
    theirs = Difference.of(found, [baseline.reference(inputs)] * passes)
    our_difference = ours.difference(point.policy, point.tasks, point.batch, point.seq_len)
    common: dict[str, Any] = {
        "baseline": name,
        "encoder": settings.encoder,
        "policy": point.policy,
        "tasks": point.tasks,
        "batch": point.batch,
        "seq_len": point.seq_len,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "mode": ours.mode(point.policy, point.tasks),
        "threads": torch.get_num_threads(),
        "flop_ratio": flop_ratio(
            ours.encoder.shape, ours.tasks(point.policy, point.tasks),
            point.batch, point.seq_len, is_strict(name),
        ),
        "max_abs_diff": our_difference.absolute,
        "baseline_max_abs_diff": theirs.absolute,
        "models": passes,
    }  # fmt: skip
    wrong = []
    if not our_difference.within(own_allowed):
        wrong.append(f"the engine differs from a plain evaluation of its packs by "
                     f"{our_difference.absolute:.2e}")  # fmt: skip
    if not theirs.within(baseline.tolerance or allowed):
        wrong.append(f"{name} differs from eager torch by {theirs.absolute:.2e}")
    if wrong:
        return Row(**common, error="; ".join(wrong))
    timings = interleaved(
        {"dense": dense, "lets": ours.call(point.policy, point.tasks, tokens)},
        settings.rounds,
        warmup=1,  # both have answered once, when they were checked
        seconds=settings.seconds,
        synchronize=torch.cuda.synchronize if settings.device != "cpu" else None,
    )
    return Row.of(common, timings["dense"], timings["lets"], point.tasks / passes)


def _points(ours: Ours) -> Iterator[Point]:
    settings = ours.settings
    grid = product(ours.policies, settings.tasks, settings.batch, settings.seq_len)
    return (Point(*values) for values in grid)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """torch's intra-op threads within; as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
