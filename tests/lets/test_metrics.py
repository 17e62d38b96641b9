import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lets.errors import LetsError
from lets.metrics import (
    Chain,
    TaskLoad,
    append_top,
    freeze_bottom,
    full_finetuning,
    own_pass,
    policy_report,
    system_metrics,
    task_load,
)
from lets.policy import Policy
from lets.policy_cost import frozen_cost, task_cost
from lets.shape import EncoderShape

from tests.policies import policies

BASE = EncoderShape.from_name("bert-base")
LARGE = EncoderShape.from_name("bert-large")


def test_full_finetuning():
    metrics = full_finetuning(LARGE, 128, 9)
    assert metrics.total_percent == 900
    assert metrics.total_params_ratio == 9
    assert metrics.max_speedup == metrics.schedule_speedup == 1


def test_diff_pruning_saves_parameters_alone():
    metrics = own_pass(LARGE, 128, 9, new_params=round(0.005 * LARGE.num_parameters))
    assert metrics.total_percent == 900
    assert metrics.max_speedup == 1
    assert metrics.total_params_ratio == pytest.approx(1.045)


def test_freeze_bottom_12():
    """The paper prints 45% and 5.05x = 1 + 9 · 45%; unrounded it is 45.24% and 5.07x."""
    metrics = freeze_bottom(LARGE, 128, 9, 12)
    assert metrics.new_percent == metrics.overhead_percent == 50
    assert metrics.total_percent == 500
    assert metrics.max_speedup == pytest.approx(1.8)
    assert metrics.new_params_percent == pytest.approx(45.243, abs=1e-3)
    assert round(metrics.new_params_percent) == 45
    assert metrics.total_params_ratio == pytest.approx(5.0719, abs=1e-4)


def test_freeze_bottom_23():
    metrics = freeze_bottom(LARGE, 128, 9, 23)
    assert metrics.total_percent == pytest.approx(400 / 3)
    assert metrics.max_speedup == pytest.approx(6.75)
    assert round(metrics.total_params_ratio, 2) == 1.34


def test_append_1():
    metrics = append_top(LARGE, 128, 9, 1)
    assert metrics.total_percent == pytest.approx(137.5)
    assert round(metrics.max_speedup, 2) == 6.55
    assert round(metrics.total_params_ratio, 2) == 1.34


def test_fig2b_with_equal_layers():
    """All live layers cost 1: the critical path is 9 + 9 · 3 of 9 · 12."""
    policy = Policy.preset("fig2b", 12)
    chains = tuple(Chain(len(chain), ready=chain[0]) for chain in policy.chains)
    load = TaskLoad(chains, pooled_ready=7)
    metrics = system_metrics(12, 1, overhead=9, tasks=[load] * 9)
    assert metrics.max_speedup == pytest.approx(3.0)
    assert metrics.schedule_speedup == pytest.approx(3.0)
    assert metrics.new_percent == pytest.approx(100 * 8 / 12)


def test_groups_on_large():
    report = policy_report(LARGE, [Policy.preset("g-4", 24)] * 9, 128, 0.005, "paper")
    assert report.metrics.overhead_percent == 75
    assert report.encoder_flops == 24 * report.overhead // 18


def test_schedule_starts_chains_when_their_input_is_there():
    """The long chain at the bottom runs beside the backbone; the paper's path waits for its end."""
    load = TaskLoad((Chain(6, ready=0), Chain(1, ready=9)), head=1, pooled_ready=8)
    metrics = system_metrics(12, 1, overhead=9, tasks=[load])
    assert metrics.max_speedup == 12 / (9 + 6 + 1)
    assert metrics.schedule_speedup == 12 / (10 + 1)
    pooled_late = TaskLoad((Chain(6, ready=0),), head=1, pooled_ready=9)
    assert system_metrics(12, 1, 9, [pooled_late]).schedule_speedup == 12 / (9 + 1)


def test_tasks_run_in_order():
    load = TaskLoad((Chain(4, ready=2),))
    assert system_metrics(12, 1, 3, [load] * 3).schedule_speedup == 36 / (2 + 3 * 4)


def test_parameters():
    report = policy_report(BASE, [Policy.preset("fig2b", 12)] * 9, 128, 0.005)
    masked = 8 * 7_077_888
    assert report.tasks[0].nnz == round(0.005 * masked)
    expected = report.tasks[0].nnz + 8 * (8 * 768 + 3072) + 822_146
    assert {load.new_params for load in report.loads} == {expected}
    assert report.metrics.new_params_percent == pytest.approx(100 * expected / 108_891_648)
    ratio = 1 + 9 * expected / 108_891_648
    assert report.metrics.total_params_ratio == pytest.approx(ratio)


@settings(max_examples=50)
@given(st.lists(policies(12), min_size=1, max_size=4), st.sampled_from(["paper", "engine"]))
def test_sums_and_bounds(chosen, accounting):
    report = policy_report(BASE, chosen, 64, 0.005, accounting)
    metrics = report.metrics
    new = sum(task.total.flops for task in report.tasks)
    total = 100 * (new + report.overhead) / report.encoder_flops
    assert metrics.total_percent == pytest.approx(total)
    assert metrics.total_percent == pytest.approx(
        len(chosen) * metrics.new_percent + metrics.overhead_percent
    )
    assert metrics.schedule_speedup >= metrics.max_speedup * (1 - 1e-12)
    for task, load in zip(report.tasks, report.loads, strict=True):
        assert load.flops == task.total.flops
        assert load.new_params == task.total.params


def test_a_stream_waits_for_the_frozen_encoder_layer_by_layer():
    shape = EncoderShape("tiny", 3, 16, 2, 32, 10_000)
    report = policy_report(shape, [Policy("pss", "ppf")], 64, 0.01)
    (chain,) = report.loads[0].chains
    frozen = frozen_cost(shape, 64, [Policy("pss", "ppf")])
    layers = [cost.flops for cost in report.tasks[0].layers]
    # Its last layer starts when K and V of layer 2 are there, and nothing is left after it.
    assert chain.flops == sum(layers)
    assert chain.ready + chain.flops == frozen.qkv_ready[2] + layers[2]
    assert frozen.qkv_ready[2] > frozen.qkv_ready[1] + sum(layers)


def test_reports_differ_by_task():
    """Labels and counted non-zeros are taken task by task."""
    policies = [Policy.preset("fig2b", 12), Policy.preset("g-3", 12)]
    frozen = frozen_cost(BASE, 32, policies)
    costs = [
        task_cost(BASE, policy, 32, density, num_labels=labels)
        for policy, density, labels in zip(policies, (0.001, 0.01), (2, 5), strict=True)
    ]
    assert [task_load(cost, frozen).mask for cost in costs] == [56_623, 849_347]
    assert costs[0].head.params + 3 * 257 == costs[1].head.params


def test_bad_input_is_refused():
    with pytest.raises(LetsError, match="at least one task"):
        system_metrics(12, 1, 0, [])
    with pytest.raises(LetsError, match="critical path"):
        system_metrics(12, 1, 0, [TaskLoad(())])
    with pytest.raises(LetsError, match="frozen_layers must be between 0 and 24, got 25"):
        freeze_bottom(LARGE, 128, 9, 25)
    with pytest.raises(LetsError, match="new_layers"):
        append_top(LARGE, 128, 9, -1)
