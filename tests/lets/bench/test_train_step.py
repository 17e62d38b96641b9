"""Training steps of every variant, and the lines that the measuring process exchanges with them."""

import io

import pytest
import torch
from lets.bench import train_step
from lets.bench.train_step import VARIANTS, StepProblem, compare_steps, serve, training_step


@pytest.fixture
def problem(tiny_folder):
    return StepProblem(
        tiny_folder, "g-3", batch=4, seq_len=8, density=0.1, threads=1, learning_rate=3e-3
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_train(variant, problem):
    torch.manual_seed(0)
    step = training_step(variant, problem)
    losses = [step() for _ in range(30)]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_cached_activations_change_no_loss(problem):
    def losses(variant):
        torch.manual_seed(0)
        step = training_step(variant, problem)
        return [step() for _ in range(3)]

    assert losses("lets") == pytest.approx(losses("lets-cached"), abs=1e-6)


def test_answers_are_seconds_and_bytes(problem):
    answers = io.StringIO()
    serve("lets", problem, io.StringIO("peak\nbuild\nstep\nstep\npeak\n"), answers)
    before, _, first, second, peak = map(float, answers.getvalue().split())
    assert 0 < first < 60
    assert 0 < second < 60
    assert 1e7 < before <= peak


def test_rows_compare_with_full_fine_tuning(problem, monkeypatch):
    class Child:
        imports = 1e6

        def __init__(self, problem, variant):
            self.scale = 1.0 if variant.startswith("full") else 0.5

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def ask(self, question):
            return self.scale * (2.0 if question == "step" else 4e6)

    monkeypatch.setattr(train_step, "_Child", Child)
    rows = {row["variant"]: row for row in compare_steps(problem, rounds=3)}
    assert list(rows) == list(VARIANTS)
    assert rows["lets"]["step_ms"] == 1000
    assert rows["lets"]["speedup"] == 2
    assert rows["lets"]["memory_ratio"] == 0.5
    assert rows["full"]["peak_mb"] == 4
