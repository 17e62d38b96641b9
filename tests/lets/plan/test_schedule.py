"""Critical paths and list schedules: by hand, and by their rules on real plans."""

import itertools

import pytest
from lets.errors import LetsError
from lets.metrics import policy_report
from lets.plan.compile import compile_plan
from lets.plan.schedule import critical_path, list_schedule
from lets.plan.spec import TaskSpec
from lets.plan.step import Answer, Buffer, Plan, Step
from lets.plan.timing import MachineRates, plan_seconds
from lets.policy import Policy
from lets.shape import EncoderShape

from tests.lets.plan.test_compile import fig2b

# In the proportions of a small CPU.
RATES = MachineRates(((1, 8e9), (16, 40e9), (128, 70e9), (1024, 95e9)), 12e9, 1e-5)


def diamond():
    """a -> b, c -> d"""
    steps = (
        Step("embed", (), "a"),
        Step("full_tail", ("a",), "b"),
        Step("full_tail", ("a",), "c"),
        Step("head", ("b", "c"), "d", tasks=("t",)),
    )
    buffers = {name: Buffer(name, "x") for name in "abcd"}
    return Plan("hand-made", 1, 1, steps, buffers, {"t": Answer("d", 0, 2)}).check()


def test_by_hand():
    plan, seconds = diamond(), [1.0, 2.0, 5.0, 1.0]
    assert critical_path(plan, seconds) == (7.0, [0, 2, 3])
    one, two = (list_schedule(plan, seconds, streams) for streams in (1, 2))
    assert [slot.step for slot in one.slots] == [0, 2, 1, 3]  # the longer way first
    assert (one.seconds, two.seconds) == (9.0, 7.0)
    with pytest.raises(LetsError, match="streams must be at least 1"):
        list_schedule(plan, seconds, 0)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("streams", [1, 2, 5])
def test_schedules_keep_to_the_rules(streams, dependent):
    plan = compile_plan(*fig2b(3), stacked=False)
    seconds = plan_seconds(plan, RATES)
    schedule = list_schedule(plan, seconds, streams, dependent)
    end = {slot.step: slot.end for slot in schedule.slots}
    assert sorted(end) == list(range(len(plan.steps)))
    for slot in schedule.slots:
        assert all(end[j] <= slot.begin for j in plan.dependencies()[slot.step])
        assert slot.stream < streams
    for stream in range(streams):
        own = [slot for slot in schedule.slots if slot.stream == stream]
        assert all(a.end <= b.begin for a, b in itertools.pairwise(own))
    path, _ = critical_path(plan, seconds, dependent)
    assert path <= schedule.seconds + 1e-9 <= sum(seconds) + 2e-9
    if streams == 1:
        assert schedule.seconds == pytest.approx(sum(seconds))
    if dependent:
        answered = [end[plan.producers()[a.buffer]] for a in plan.answers.values()]
        assert answered == sorted(answered)
        for i, step in enumerate(plan.steps):
            if plan.buffers[step.output].tasks == ("task2",):
                begin = next(s.begin for s in schedule.slots if s.step == i)
                assert begin >= answered[1]


def test_stacked_tasks_cannot_wait_for_each_other():
    plan = compile_plan(*fig2b(2))
    with pytest.raises(LetsError, match="cannot be stacked"):
        critical_path(plan, plan_seconds(plan, RATES), dependent=True)


@pytest.mark.parametrize("name", ["fig2b", "g-1", "g-3", "g-4"])
def test_dependent_tasks_meet_the_paper_s_speedup(name):
    """Times in FLOPs on ever so many streams: what `schedule_speedup` computes from chains."""
    shape = EncoderShape.from_name("bert-base")
    policy = Policy.preset(name, 12)
    specs = [TaskSpec.from_policy(f"t{i}", policy, shape) for i in range(9)]
    report = policy_report(shape, [policy] * 9, 128, [spec.nnz for spec in specs])
    plan = compile_plan(shape, specs, stacked=False)
    flops = [float(step.cost.flops) for step in plan.steps]
    path, _ = critical_path(plan, flops, dependent=True)
    speedup = 9 * report.encoder_flops / path
    assert speedup == list_speedup(plan, flops, report)
    assert speedup >= 0.99 * report.metrics.max_speedup


def list_speedup(plan, flops, report):
    seconds = list_schedule(plan, flops, 16, dependent=True).seconds
    return pytest.approx(9 * report.encoder_flops / seconds)


def test_rates():
    rates = MachineRates(((1, 1e9), (100, 3e9)), 1e9, 0.0)
    assert [rates.flops(n) for n in (1, 10, 100, 1000)] == pytest.approx([1e9, 2e9, 3e9, 3e9])
    assert MachineRates.from_dict(rates.to_dict()) == rates
    for wrong in ({"gemm": []}, {"gemm": [(2, 1.0), (1, 1.0)]}, {"bandwidth": 0.0}):
        with pytest.raises(ValueError):
            MachineRates.from_dict({**rates.to_dict(), **wrong})
