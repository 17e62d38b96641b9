import importlib
import math

import pytest
from lets import scores
from lets.errors import LetsError
from lets.glue import GLUE
from lets.scores import DEFAULT_METRIC, METRICS, check_metric, score

TARGETS = [0, 1, 1, 1, 0, 1]
PREDICTED = [0, 1, 0, 1, 1, 1]  # 3 true and 1 false positive, 1 true and 1 false negative


def test_classification_scores_by_hand():
    assert score("accuracy", TARGETS, PREDICTED) == pytest.approx(4 / 6)
    assert score("f1", TARGETS, PREDICTED) == pytest.approx(2 * 3 / (2 * 3 + 1 + 1))
    matthews = (3 * 1 - 1 * 1) / math.sqrt(4 * 4 * 2 * 2)
    assert score("matthews", TARGETS, PREDICTED) == pytest.approx(matthews)


def test_f1_of_more_classes_is_the_mean_over_classes():
    assert score("f1", [0, 1, 2, 2], [0, 1, 1, 2]) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)


def test_f1_without_positives_is_zero():
    assert score("f1", [0, 0], [0, 0]) == 0.0


def test_regression_scores_by_hand():
    targets, predictions = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 10.0]
    assert score("spearman", targets, predictions) == pytest.approx(0.8)
    # Deviations (-1.5, -.5, .5, 1.5) and (-3, -1, -2, 6): 13 / sqrt(5 · 50).
    assert score("pearson", targets, predictions) == pytest.approx(13 / math.sqrt(250))


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_constants_have_no_correlation(name, recwarn):
    assert score(name, [1.0, 2.0], [3.0, 3.0]) == 0.0
    assert score(name, [2.0, 2.0], [3.0, 4.0]) == 0.0
    assert not recwarn.list


def test_constant_predictions_have_no_matthews():
    assert score("matthews", [0, 1], [1, 1]) == 0.0


def test_every_glue_task_has_a_fitting_metric():
    for task in GLUE.values():
        problem = "regression" if task.regression else "classification"
        assert check_metric(task.metric, problem) == task.metric
    for problem, name in DEFAULT_METRIC.items():
        assert METRICS[name].problem_type == problem


def test_bad_input_is_refused():
    with pytest.raises(LetsError, match="metric: must be one of accuracy, f1"):
        score("bleu", [0], [0])
    with pytest.raises(LetsError, match="one of pearson, spearman for regression, got 'f1'"):
        check_metric("f1", "regression")
    with pytest.raises(LetsError, match="equally long and not empty, got 2 and 1"):
        score("accuracy", [0, 1], [0])
    with pytest.raises(LetsError, match="not empty, got 0 and 0"):
        score("accuracy", [], [])
    with pytest.raises(LetsError, match="must be finite"):
        score("pearson", [0.0, 1.0], [float("nan"), 1.0])


def test_missing_package_names_the_extra(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(LetsError, match=r"scores need sklearn.*pip install 'lets-ext\[train\]'"):
        scores.score("accuracy", [0], [0])
