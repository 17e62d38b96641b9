import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lets.cost import LayerPrices
from lets.policy import LayerCase, Policy
from lets.search.objective import cost_factor, expected_cost

LAYERS = 3
PRICES = [LayerPrices(150 + j, 10 + j, 225 + j, 30 + j) for j in range(LAYERS)]


def price_of(policy: Policy) -> float:
    by_case = {
        LayerCase.P_ALL: "p_all",
        LayerCase.P_CLS: "p_cls",
        LayerCase.F_ALL: "f_all",
        LayerCase.F_CLS: "f_cls",
    }
    return sum(
        getattr(PRICES[j], by_case[case])
        for j, case in enumerate(policy.cases)
        if case != LayerCase.BYPASS
    )


def all_policies():
    for tail in itertools.product("pf", repeat=2 * LAYERS - 1):
        yield Policy("p" + "".join(tail[: LAYERS - 1]), "".join(tail[LAYERS - 1 :]))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1), min_size=2 * LAYERS - 1, max_size=2 * LAYERS - 1))
def test_is_the_mean_over_all_policies(probabilities):
    p_input = [0.0, *probabilities[: LAYERS - 1]]
    p_pool = probabilities[LAYERS - 1 :]
    mean = 0.0
    for policy in all_policies():
        weight = 1.0
        for p, letter in zip([*p_input, *p_pool], policy.input + policy.pool, strict=True):
            weight *= p if letter == "f" else 1 - p
        mean += weight * price_of(policy)
    got = expected_cost(
        torch.tensor(p_input, dtype=torch.float64),
        torch.tensor(p_pool, dtype=torch.float64),
        PRICES,
    )
    assert got.item() == pytest.approx(mean, rel=1e-12, abs=1e-9)


def test_head_is_paid_by_every_policy():
    nothing = torch.zeros(LAYERS)
    assert expected_cost(nothing, nothing, PRICES, constant=0.25).item() == 0.25


def test_gradients():
    p_input, p_pool = torch.rand(2, LAYERS, dtype=torch.float64).requires_grad_().unbind()
    assert torch.autograd.gradcheck(lambda i, p: expected_cost(i, p, PRICES), (p_input, p_pool))


def test_cost_factor_never_rewards_zero_cost_with_a_zero_loss():
    factors = cost_factor(torch.tensor([0.0, 0.5e9, 22.3e9]), 1.0, 1.0)
    assert factors[0].item() == pytest.approx(1.0)
    assert factors[2].item() == pytest.approx(math.log(math.e + 22.3))
    assert bool((factors[1:] > factors[:-1]).all())
