"""Seeded problems, the price of policies, and timing by turns."""

import math

import pytest
import torch
from lets.bench.check import Difference
from lets.bench.measure import MIN_ROUNDS, Timing, interleaved
from lets.bench.policies import NEW_OPS, random_policy, task_policies
from lets.bench.prediction import dense_flops, flop_ratio
from lets.bench.problem import random_task
from lets.bench.report import Row
from lets.cost import encoder_flops
from lets.metrics import policy_report
from lets.policy import Policy
from lets.policy_cost import task_cost
from lets.shape import EncoderShape

BASE = EncoderShape.from_name("bert-base")


def test_random_policies_cost_what_the_paper_found():
    policies = task_policies("random", BASE, 4, 0.005, seed=0)
    assert policies == task_policies("random", BASE, 4, 0.005, seed=0)
    assert len(set(policies)) > 1
    for policy in policies:
        share = task_cost(BASE, policy, 128, 0.005).total.flops / encoder_flops(BASE, 128)
        assert share == pytest.approx(NEW_OPS, abs=0.02)


def test_mixtures_take_turns():
    found = task_policies("fig2b+g-3", BASE, 3, 0.005, seed=0)
    assert found == [Policy.preset(name, 12) for name in ("fig2b", "g-3", "fig2b")]
    assert task_policies("g-4+random", BASE, 2, 0.005, 3)[1] == random_policy(BASE, 0.005, 4)


def test_packs_have_their_density_and_their_seed(tiny_encoder):
    policy = Policy("pff", "fff")
    task, again, other = (random_task(tiny_encoder, policy, 0.2, seed) for seed in (1, 1, 2))
    weights = sum(
        delta.layout.out_features * delta.layout.in_features
        for layer in task.deltas.values()
        for delta in layer.values()
    )
    assert task.nnz / weights == pytest.approx(0.2, rel=0.05)
    first, second, third = (t.deltas[1]["up"] for t in (task, again, other))
    assert torch.equal(first.values, second.values)
    assert not torch.equal(first.layout.col_indices[:20], third.layout.col_indices[:20])


@pytest.mark.parametrize("batch", [1, 4])
def test_flop_ratio_is_the_cost_model_s(tiny_encoder, batch):
    shape, policies = tiny_encoder.shape, [Policy("pff", "fff"), Policy("ppf", "ppf")]
    tasks = [random_task(tiny_encoder, p, 0.1, i, f"t{i}") for i, p in enumerate(policies)]
    report = policy_report(shape, policies, 8, [t.layer_nnz() for t in tasks])
    expected = 2 * 100 / report.metrics.total_percent
    assert flop_ratio(shape, tasks, batch, 8) == pytest.approx(expected)
    assert flop_ratio(shape, tasks, batch, 8, cls_last=True) < expected


def test_strict_dense_model_saves_most_of_a_layer_s_tail():
    saved = 1 - dense_flops(BASE, 1, 128, cls_last=True) / dense_flops(BASE, 1, 128)
    assert 0.06 < saved < 1 / 12


def test_rounds_alternate_and_warmup_does_not_count():
    calls = []
    timings = interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 4, warmup=1, repeats=2
    )
    assert "".join(calls) == "aabb" * 5
    assert timings["a"].rounds == 4


def test_time_limit_keeps_the_least_number_of_rounds():
    timing = interleaved({"a": lambda: None}, 50, seconds=0.0)["a"]
    assert timing.rounds == MIN_ROUNDS
    assert timing.low <= timing.median <= timing.high
    assert Timing.of([2.0]) == Timing(2.0, 2.0, 2.0, 1)


def test_nan_is_never_within():
    found = Difference.of([torch.tensor([math.nan, 1.0])], [torch.tensor([1.0, 1.0])])
    assert not found.within(1e9)
    row = Row("eager", "e", "p", 1, 1, 8, "float32", "serial", 1, 2.0, found.absolute, 0.0, 1)
    assert row.to_dict()["max_abs_diff"] is None
