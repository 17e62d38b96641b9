"""The selectors' gradient through one step of the weights (METHOD section 7, second order)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Loss = Callable[[], Tensor]


def arch_gradient(
    alphas: Tensor,
    weights: Sequence[Tensor],
    loss_weights: Loss,
    loss_arch: Loss,
    rates: Sequence[float],
    epsilon_scale: float = 0.01,
) -> tuple[Tensor, Tensor]:
    """∇_a L_D2(W', a) − ξ·[∇_a L_D1(W⁺, a) − ∇_a L_D1(W⁻, a)] / 2ε with W' = W − ξ ∇_W L_D1(W, a).

    Both losses must be the same function at every call: batches and noise frozen by the caller.
    The weights are moved in place and come back bit for bit.

    Args:
        rates: ξ per weight tensor. With one rate for all this is the method's formula; with several
            the finite difference runs along their proportions, which keeps the chain rule. All 0:
            first order.

    Returns:
        The gradient, shape of `alphas`, and L_D2(W', a), scalar.
    """
    scale = max(rates, default=0.0)
    if scale == 0.0:
        loss = loss_arch()
        return _gradients(loss, [alphas])[0], loss.detach()
    saved = [w.detach().clone() for w in weights]
    step = _gradients(loss_weights(), weights)
    _move(weights, saved, step, [-rate for rate in rates])
    loss = loss_arch()
    gradient, *direction = _gradients(loss, [alphas, *weights])
    direction = [d * (rate / scale) for d, rate in zip(direction, rates, strict=True)]
    norm = float(torch.sqrt(sum((d.double() ** 2).sum() for d in direction)))  # type: ignore[arg-type]
    if norm > 0.0:
        epsilon = epsilon_scale / norm
        sides = []
        for sign in (1.0, -1.0):
            _move(weights, saved, direction, [sign * epsilon] * len(saved))
            sides.append(_gradients(loss_weights(), [alphas])[0])
        gradient = gradient - scale * (sides[0] - sides[1]) / (2 * epsilon)
    _move(weights, saved, saved, [0.0] * len(saved))
    return gradient, loss.detach()


def _gradients(loss: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs, materialize_grads=True))


@torch.no_grad()
def _move(
    weights: Sequence[Tensor],
    origin: Sequence[Tensor],
    direction: Sequence[Tensor],
    amounts: Sequence[float],
) -> None:
    for weight, start, along, amount in zip(weights, origin, direction, amounts, strict=True):
        weight.copy_(start if amount == 0.0 else torch.add(start, along, alpha=amount))
