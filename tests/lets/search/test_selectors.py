import math

import pytest
import torch
from lets.errors import LetsError
from lets.policy import Policy
from lets.search.derive import derive_policy
from lets.search.selectors import Selectors, gumbel_noise, temperature_at


def test_start_at_one_half_except_where_fixed():
    p_input, p_pool = Selectors(6, groups=3)(None, 4.0)
    assert p_input.tolist() == [0.0, 0.5, 0.0, 0.5, 0.0, 0.5]
    assert p_pool.tolist() == [0.5] * 6


def test_follows_the_formula():
    selectors = Selectors(3)
    with torch.no_grad():
        selectors.alphas.copy_(torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(1)))
    noise = gumbel_noise(3, torch.Generator().manual_seed(2))
    p_input, p_pool = selectors(noise, 1.7)
    logits = (selectors.alphas + noise).detach() / 1.7
    expected = logits.exp()[..., 1] / logits.exp().sum(-1)
    assert torch.allclose(p_input[1:], expected[0, 1:])
    assert torch.allclose(p_pool, expected[1])
    assert p_input[0].item() == 0.0


def test_noise_is_gumbel_and_repeats():
    draws = torch.stack([gumbel_noise(64, torch.Generator().manual_seed(s)) for s in range(40)])
    assert draws.mean().item() == pytest.approx(0.5772, abs=0.05)
    assert draws.var().item() == pytest.approx(math.pi**2 / 6, abs=0.1)
    assert torch.equal(draws[3], gumbel_noise(64, torch.Generator().manual_seed(3)))


def test_temperature_falls_once_per_interval():
    assert temperature_at(0.0, 4.0, 0.065, 0.1) == 4.0
    assert temperature_at(0.0999, 4.0, 0.065, 0.1) == 4.0
    assert temperature_at(0.3, 4.0, 0.065, 0.1) == pytest.approx(4.0 * math.exp(-0.195))


def test_policy_is_the_arg_max_under_the_group_restriction():
    selectors = Selectors(4, groups=2)
    with torch.no_grad():
        selectors.alphas[..., 1] = torch.tensor([[9.0, 1.0, 9.0, -1.0], [0.0, 1.0, -1.0, 2.0]])
    assert derive_policy(selectors) == Policy("pfpp", "pfpf")


def test_layers_that_always_pool_their_own_row():
    selectors = Selectors(4, pool="f")
    with torch.no_grad():
        selectors.alphas[..., 0] = torch.tensor([[0.0, 1.0, -1.0, 0.0], [5.0, 5.0, 5.0, 5.0]])
    p_input, p_pool = selectors(gumbel_noise(4, torch.Generator().manual_seed(3)), 1.0)
    assert p_pool.tolist() == [1.0] * 4
    assert 0.0 < p_input[2].item() < 1.0
    assert derive_policy(selectors) == Policy("ppfp", "ffff")


def test_groups_must_divide_the_layers():
    with pytest.raises(LetsError, match="must divide the 6 layers"):
        Selectors(6, groups=4)
