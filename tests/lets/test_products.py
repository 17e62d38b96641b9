"""Packed weights multiply like plain ones and hold the same numbers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lets import products
from torch.nn import functional as F

from tests.factories import generator

pytestmark = pytest.mark.skipif(
    not products.can_pack(torch.float32), reason="torch was built without oneDNN"
)
sizes = st.integers(1, 70)


def make_product(rows, in_features, out_features, seed=0):
    random = generator(seed)
    x = torch.randn(2, rows, in_features, generator=random)
    weight = torch.randn(out_features, in_features, generator=random)
    return x, weight, torch.randn(out_features, generator=random)


@given(st.integers(0, 40), sizes, sizes)
def test_packed_products_are_the_plain_ones(rows, in_features, out_features):
    x, weight, bias = make_product(rows, in_features, out_features)
    packed = products.pack(weight)
    assert products.plain(packed).equal(weight)
    expected = F.linear(x, weight, bias)
    torch.testing.assert_close(products.linear(x, packed, bias), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        products.linear(x, packed), F.linear(x, weight), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        products.linear_gelu(x, packed, bias[None]), F.gelu(expected), rtol=1e-5, atol=1e-5
    )


def test_views_of_activations():
    x, weight, bias = make_product(6, 24, 40)
    packed = products.pack(weight)
    for view in (x[:, 0], x[:1].expand(3, -1, -1), x.transpose(0, 1), x[:, ::2]):
        torch.testing.assert_close(
            products.linear(view, packed, bias), F.linear(view, weight, bias), rtol=1e-5, atol=1e-5
        )


def test_gradients_go_through_the_plain_weight():
    x, weight, bias = make_product(5, 8, 12)
    x.requires_grad_()
    packed = products.pack(weight)
    for product in (
        lambda w: products.linear(x, w, bias),
        lambda w: products.linear_gelu(x, w, bias[None]),
    ):
        found, expected = (torch.autograd.grad(product(w).sum(), x)[0] for w in (packed, weight))
        torch.testing.assert_close(found, expected)


def test_packing_takes_no_more_memory():
    _, weight, _ = make_product(1, 768, 3072)
    packed = products.pack(weight)
    assert products.is_packed(packed)
    assert products.pack(packed) is packed
    assert products.num_bytes(packed) == products.num_bytes(weight) == 4 * weight.numel()


def test_without_onednn_the_weight_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    x, weight, bias = make_product(3, 8, 12)
    assert products.pack(weight) is weight
    assert products.linear(x, weight, bias).equal(F.linear(x, weight, bias))


def test_other_precisions_are_packed_where_the_processor_has_them():
    assert not products.can_pack(torch.float64)
    assert not products.can_pack(torch.float32, "meta")
    x, weight, bias = (t.bfloat16() for t in make_product(5, 24, 40))
    found = products.linear(x, products.pack(weight), bias)
    exact = F.linear(x.double(), weight.double(), bias.double())
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2e-2, atol=5e-2)
