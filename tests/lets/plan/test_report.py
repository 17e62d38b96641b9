"""Numbers of `lets plan` that no step's cost gives."""

import pytest
from lets.plan.report import Request, plan_report
from lets.plan.timing import MachineRates
from lets.policy import Policy
from lets.run.stacks import Stacks

from tests.lets.plan.plans import LAYERS, make_encoder, make_tasks, specs_of

POLICIES = [("pfff", "fffp"), ("pppp", "pffp"), ("pfpf", "ffff")]


@pytest.mark.parametrize("density", [0.02, 0.3])
def test_memory_of_the_tasks_is_that_of_their_stacks(density):
    encoder = make_encoder(LAYERS)
    tasks = make_tasks([(Policy(*policy), density, 3) for policy in POLICIES])
    rates = MachineRates(((1, 1e9),), 1e9, 0.0)
    report = plan_report(Request(encoder.shape, specs_of(tasks), 1, 8, rates))
    held = sum(tensor.nbytes for tensor in Stacks(encoder, tasks).tensors())
    assert report["memory"]["tasks_mb"] * 1e6 == pytest.approx(held, rel=0.05)
