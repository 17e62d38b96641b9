"""Paired bootstrap of the difference of two systems, over seeds and over examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lets.reproduce.cell import Cell
from lets.scores import score

_RESAMPLES = 1000
MARGIN = -0.2  # the paper's loss, in points


@dataclass(frozen=True)
class Difference:
    """System minus reference in points, averaged over tasks.

    Args:
        low, high: 95% interval.
        not_below_margin: Share of resamples that are not below `MARGIN`.
        seeds: Least number of seeds that both have on a task.
    """

    mean: float
    low: float
    high: float
    not_below_margin: float
    seeds: int
    tasks: tuple[str, ...]


def paired_difference(
    ours: dict[str, dict[int, Cell]], reference: dict[str, dict[int, Cell]], seed: int = 0
) -> Difference | None:
    """Compare two systems where both have a cell: same tasks, same seeds, same examples."""
    tasks = [task for task in reference if set(ours.get(task, {})) & set(reference[task])]
    if not tasks:
        return None
    random = np.random.default_rng(seed)
    means, samples, seeds = [], np.zeros(_RESAMPLES), []
    for task in tasks:
        both = sorted(set(ours[task]) & set(reference[task]))
        pairs = [(ours[task][s], reference[task][s]) for s in both]
        seeds.append(len(both))
        means.append(np.mean([100 * (a.score - b.score) for a, b in pairs]))
        samples += _resampled(pairs, random)
    samples = 100 * samples / len(tasks)
    low, high = np.quantile(samples, (0.025, 0.975))
    return Difference(
        float(np.mean(means)), float(low), float(high),
        float(np.mean(samples >= MARGIN)), min(seeds), tuple(tasks),
    )  # fmt: skip


def _resampled(pairs: Sequence[tuple[Cell, Cell]], random: np.random.Generator) -> Any:
    """Differences of one task's score: seeds drawn with replacement, then examples. [resamples]"""
    count = len(pairs[0][0].targets)
    out = np.zeros(_RESAMPLES)
    chosen = random.integers(len(pairs), size=(_RESAMPLES, len(pairs)))
    for draw in range(_RESAMPLES):
        rows = random.integers(count, size=count)
        for seed in chosen[draw]:
            ours, reference = pairs[seed]
            out[draw] += _score(ours, rows) - _score(reference, rows)
    return out / len(pairs)


def _score(cell: Cell, rows: Any) -> float:
    targets, predictions = (np.asarray(v)[rows] for v in (cell.targets, cell.predictions))
    if cell.metric == "f1" and max(targets.max(), predictions.max()) > 1:
        return score(cell.metric, targets.tolist(), predictions.tolist())
    return _SCORES[cell.metric](targets, predictions)


# `lets.scores` again, without scikit-learn's checks: a bootstrap needs tens of thousands of them.
def _accuracy(targets: Any, predictions: Any) -> float:
    return float((targets == predictions).mean())


def _f1(targets: Any, predictions: Any) -> float:
    both, wrong = (targets & predictions).sum(), (targets != predictions).sum()
    return float(2 * both / (2 * both + wrong)) if both + wrong else 0.0


def _pearson(targets: Any, predictions: Any) -> float:
    constant = (targets == targets[0]).all() or (predictions == predictions[0]).all()
    return 0.0 if constant else float(np.corrcoef(targets, predictions)[0, 1])


def _spearman(targets: Any, predictions: Any) -> float:
    from scipy.stats import rankdata

    return _pearson(rankdata(targets), rankdata(predictions))


# Of two classes, Matthews is Pearson's.
_SCORES = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _pearson,
    "pearson": _pearson,
    "spearman": _spearman,
}
