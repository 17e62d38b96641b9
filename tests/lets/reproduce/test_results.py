"""Means, standard errors, operations of a set, and the bootstrap, against values by hand."""

import statistics

import pytest
from lets.errors import LetsError
from lets.metrics import policy_report
from lets.policy import Policy
from lets.reproduce.bootstrap import paired_difference
from lets.reproduce.cell import NUM_TASKS
from lets.reproduce.results import Mean, Results, select

from tests.lets.reproduce.grids import DENSITY, SHAPE, make_result


def grid(system="lets-pc", quality=0.85, tasks=("rte", "mrpc"), seeds=(0, 1, 2), **changes):
    return [make_result(system, task, seed, quality, **changes) for task in tasks for seed in seeds]


def test_means_and_standard_errors():
    cells = grid()
    results = Results(cells)
    rte = [100 * cell.score for cell in cells if cell.task == "rte"]
    found = results.score("lets-pc", "rte")
    assert found == Mean(statistics.fmean(rte), statistics.stdev(rte) / 3**0.5, 3)
    mrpc = results.score("lets-pc", "mrpc")
    average = results.average("lets-pc", ["rte", "mrpc"])
    assert average.value == pytest.approx((found.value + mrpc.value) / 2)
    assert average.se == pytest.approx((found.se**2 + mrpc.se**2) ** 0.5 / 2)
    assert average.count == 3
    assert results.average("lets-pc", ["rte", "cola"]) is None
    assert results.score("full", "rte") is None


def test_one_seed_has_no_standard_error():
    results = Results(grid(seeds=(0,)))
    assert results.average("lets-pc", ["rte", "mrpc"]).se is None


@pytest.mark.parametrize("accounting", ["paper", "engine"])
def test_operations_of_a_set_are_those_of_its_policies(accounting):
    """Half of the tasks with one policy, half with another: as if the nine were a mixture."""
    policies = [Policy("pppppp", "ffffff"), Policy("pfffff", "pppppf")]
    cells = [
        make_result("lets-pc", task, 0, 0.8, policy=policy)
        for task, policy in zip(("rte", "mrpc"), policies)
    ]
    results = Results(cells)
    found = results.ops("lets-pc", accounting)
    report = policy_report(SHAPE, policies, results.seq_len, DENSITY, accounting)
    assert found["new_ops_percent"] == pytest.approx(report.metrics.new_percent)
    assert found["overhead_percent"] == pytest.approx(report.metrics.overhead_percent)
    assert found["max_speedup"] == pytest.approx(
        100 * NUM_TASKS
        / (report.metrics.overhead_percent
           + NUM_TASKS * (200 / report.metrics.max_speedup - report.metrics.overhead_percent) / 2)
    )  # fmt: skip


def test_full_fine_tuning_costs_what_it_costs():
    results = Results(grid("full", 0.9, policy=None))
    for accounting in ("paper", "engine"):
        ops = results.ops("full", accounting)
        assert ops["total_percent"] == pytest.approx(900)
        assert ops["max_speedup"] == pytest.approx(1)
    assert results.params("full")["total_params_ratio"] == pytest.approx(9)


def by_task(cells):
    return Results(cells).cells[cells[0].system]


def test_bootstrap_finds_a_difference_and_no_difference():
    full, worse = grid("full", 0.95, policy=None), grid("freeze-3", 0.6, policy=None)
    found = paired_difference(by_task(worse), by_task(full))
    by_hand = statistics.fmean(100 * (a.score - b.score) for a, b in zip(worse, full))
    assert found.mean == pytest.approx(by_hand)
    assert found.low < found.mean < found.high < 0
    assert found.not_below_margin == 0
    assert (found.seeds, found.tasks) == (3, ("rte", "mrpc"))
    same = paired_difference(by_task(full), by_task(full))
    assert (same.mean, same.low, same.high, same.not_below_margin) == (0, 0, 0, 1)


def test_bootstrap_takes_what_both_have():
    full = grid("full", 0.95, policy=None)
    other = grid("lets-pc", 0.9, tasks=("rte",), seeds=(1,))
    found = paired_difference(by_task(other), by_task(full))
    assert (found.seeds, found.tasks) == (1, ("rte",))
    assert paired_difference(by_task(grid(seeds=(7,))), by_task(full)) is None


def test_the_cells_of_one_encoder():
    cells = grid()
    assert select(cells).facts()["cells"] == 6
    with pytest.raises(LetsError, match=r"no result cell of mpnet; there are tiny"):
        select(cells, "mpnet")
