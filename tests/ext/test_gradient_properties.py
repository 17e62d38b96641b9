"""Gradients of every op, whatever the sizes: those of the reference, and not of how the incoming
one lies in memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lets_ext import Delta
from tests.op_cases import CASES, SIZES, TOLERANCE, strided

FROZEN = {"out_weight", "up_weight", "down_weight", "value_weight"}


def gradients(call, tensors, grad):
    """Of everything that may have one, by name."""
    leaves = {
        name: (t.values if isinstance(t, Delta) else t).detach().clone().requires_grad_()
        for name, t in tensors.items()
        if name not in FROZEN
    }
    given_ = {
        name: Delta(t.layout, leaves[name]) if isinstance(t, Delta) else leaves.get(name, t)
        for name, t in tensors.items()
    }
    found = torch.autograd.grad(call(**given_), list(leaves.values()), grad, allow_unused=True)
    return dict(zip(leaves, found))


@pytest.mark.parametrize("op", sorted(CASES.keys() - {"cls_tail_layers"}))  # which has none
@settings(max_examples=25)
@given(sizes=SIZES, way=st.sampled_from(["gaps", "padded rows", "reversed"]))
def test_gradients_are_the_reference_s(op, sizes, way):
    call, ref, tensors = CASES[op](sizes)
    grad = torch.ones_like(call(**tensors)).normal_(generator=torch.Generator().manual_seed(1))
    wide = {
        name: Delta(t.layout, t.values.double()) if isinstance(t, Delta) else t.double()
        for name, t in tensors.items()
    }
    expected = gradients(ref, wide, grad.double())
    tolerance = 4 * TOLERANCE[sizes.dtype]
    for incoming in (grad, strided(grad, way)):
        for name, value in gradients(call, tensors, incoming).items():
            scale = 1 + expected[name].abs().max() if value.numel() else 1
            torch.testing.assert_close(
                value.double() / scale, expected[name] / scale, rtol=tolerance, atol=tolerance,
                msg=lambda text, name=name: f"{name}: {text}",
            )  # fmt: skip
