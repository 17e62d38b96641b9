import pytest
import torch
from lets.search.bilevel import arch_gradient


def quadratic(seed=0):
    """L_D1 and L_D2 with a known mixed Hessian: everything in closed form through autograd."""
    g = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    alphas = rand(3).requires_grad_()
    weights = [rand(4).requires_grad_(), rand(2, 2).requires_grad_()]
    mix, target = rand(3, 8), rand(8)

    def flat(ws):
        return torch.cat([w.flatten() for w in ws])

    def loss_weights(ws=weights, a=alphas):
        return ((flat(ws) * (a @ mix)).tanh() ** 2).sum()

    def loss_arch(ws=weights, a=alphas):
        return ((flat(ws) - target) ** 2).sum() + (a**2).sum()

    return alphas, weights, loss_weights, loss_arch


def exact(alphas, weights, loss_weights, loss_arch, rates):
    """The gradient through the step by double backward."""
    step = torch.autograd.grad(loss_weights(), weights, create_graph=True)
    moved = [w - r * s for w, r, s in zip(weights, rates, step, strict=True)]
    return torch.autograd.grad(loss_arch(moved, alphas), alphas)[0]


@pytest.mark.parametrize("rates", [(0.05, 0.05), (0.1, 0.002)])
def test_agrees_with_double_backward(rates):
    alphas, weights, loss_weights, loss_arch = quadratic()
    before = [w.detach().clone() for w in weights]
    got, _ = arch_gradient(alphas, weights, loss_weights, loss_arch, rates, 1e-4)
    want = exact(alphas, weights, loss_weights, loss_arch, rates)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)
    assert all(torch.equal(a, b) for a, b in zip(weights, before, strict=True))


def test_zero_rates_are_first_order_and_never_call_the_weights_loss():
    alphas, weights, _, loss_arch = quadratic()
    got, loss = arch_gradient(alphas, weights, lambda: pytest.fail("called"), loss_arch, (0, 0))
    assert torch.equal(got, 2 * alphas.detach())
    assert loss.item() == loss_arch().item()


def test_second_order_differs_from_first():
    alphas, weights, loss_weights, loss_arch = quadratic()
    first, _ = arch_gradient(alphas, weights, loss_weights, loss_arch, (0, 0))
    second, _ = arch_gradient(alphas, weights, loss_weights, loss_arch, (0.05, 0.05))
    assert (first - second).abs().max() > 1e-3
