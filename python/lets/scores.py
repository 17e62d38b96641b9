"""Task scores by name, as GLUE defines them; every score is a fraction, not a percentage."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lets.errors import LetsError

CLASSIFICATION = "classification"
REGRESSION = "regression"
PROBLEM_TYPES = (CLASSIFICATION, REGRESSION)

Numbers = Sequence[float]


@dataclass(frozen=True)
class Metric:
    """A score of predictions against targets; larger is better."""

    problem_type: str
    compute: Callable[[Numbers, Numbers], float]


def _sklearn(function: str, **options: Any) -> Callable[[Numbers, Numbers], float]:
    def compute(targets: Numbers, predictions: Numbers) -> float:
        return float(getattr(_lazy("sklearn.metrics"), function)(targets, predictions, **options))

    return compute


def _f1(targets: Numbers, predictions: Numbers) -> float:
    """F1 of class 1 if there are two classes (GLUE), else the unweighted mean over classes."""
    binary = set(targets) | set(predictions) <= {0, 1}
    options = {"average": "binary"} if binary else {"average": "macro"}
    return _sklearn("f1_score", zero_division=0.0, **options)(targets, predictions)


def _correlation(function: str) -> Callable[[Numbers, Numbers], float]:
    def compute(targets: Numbers, predictions: Numbers) -> float:
        # A constant has no correlation with anything; scipy warns and returns NaN.
        if len(set(targets)) < 2 or len(set(predictions)) < 2:
            return 0.0
        return float(getattr(_lazy("scipy.stats"), function)(targets, predictions)[0])

    return compute


METRICS = {
    "accuracy": Metric(CLASSIFICATION, _sklearn("accuracy_score")),
    "f1": Metric(CLASSIFICATION, _f1),
    "matthews": Metric(CLASSIFICATION, _sklearn("matthews_corrcoef")),
    "pearson": Metric(REGRESSION, _correlation("pearsonr")),
    "spearman": Metric(REGRESSION, _correlation("spearmanr")),
}
DEFAULT_METRIC = {CLASSIFICATION: "accuracy", REGRESSION: "spearman"}


def check_metric(name: str, problem_type: str) -> str:
    """Return the name of a metric that fits the problem."""
    fitting = [key for key, metric in METRICS.items() if metric.problem_type == problem_type]
    if name not in fitting:
        raise LetsError(
            f"metric: must be one of {', '.join(fitting)} for {problem_type}, got {name!r}"
        )
    return name


def score(name: str, targets: Numbers, predictions: Numbers) -> float:
    """One score by name.

    Args:
        targets: Class indices, or numbers for regression.
        predictions: The same kind, one for each target.
    """
    if name not in METRICS:
        raise LetsError(f"metric: must be one of {', '.join(METRICS)}, got {name!r}")
    if len(targets) != len(predictions) or not len(targets):
        raise LetsError(
            f"{name}: targets and predictions must be equally long and not empty, "
            f"got {len(targets)} and {len(predictions)}"
        )
    if not all(map(math.isfinite, predictions)):
        raise LetsError(f"{name}: predictions must be finite, got NaN or infinity")
    return METRICS[name].compute(targets, predictions)


def _lazy(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise LetsError(
            f"scores need {module.split('.')[0]}, which is not installed; "
            "pip install 'lets-ext[train]'"
        ) from error
