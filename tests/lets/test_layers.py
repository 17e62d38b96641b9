"""The layer cases, one task and several stacked, against merged dense layers; their gradients."""

import pytest
import torch
from lets.dense import dense_layer, merged_layers
from lets.encoder import Encoder
from lets.layers import OwnLayer, cached_cls_layer, cls_layer, full_layer, project_qkv
from lets.policy import Policy

from tests.factories import make_tensor
from tests.models import make_bert, make_task

B, S, H = 3, 5, 16
SINGLE = {"all": Policy("pf", "pf"), "cls": Policy("pp", "fp")}


@pytest.fixture(scope="module")
def encoder():
    return Encoder(make_bert(2).double(), None, dtype=torch.float64)


@pytest.fixture(params=[True, False], ids=["masked", "full"])
def mask(request):
    return torch.arange(S) < torch.tensor([[5], [1], [3]]) if request.param else None


def models(encoder, kind, count):
    """Task models whose layer 0 runs over all rows, or on its [CLS] rows alone."""
    return [
        make_task(encoder, SINGLE[kind], seed=t, density=[0.1, 0.0, 1.0][t]).to_model(encoder)
        for t in range(count)
    ]


def expected_rows(encoder, made, x, mask):
    """Merged dense layer 0 of every task on x [1|T, B, S, H]."""
    mask = torch.ones(B, S, dtype=torch.bool) if mask is None else mask
    x = x.expand(len(made), B, S, H)
    return torch.stack(
        [
            dense_layer(merged_layers(model)[0], rows, mask, encoder.shape.num_heads, encoder.eps)
            for model, rows in zip(made, x)
        ]
    )


def own(made):
    return OwnLayer.stack([model.task_layer(0).own() for model in made])


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shared", [True, False], ids=["p", "f"])
def test_all_rows(encoder, mask, count, shared):
    made, layer = models(encoder, "all", count), encoder.layer(0)
    x = make_tensor(1 if shared else count, B, S, H, dtype=torch.float64)
    found = full_layer(project_qkv(x, layer), x, mask, layer, own(made))
    close(found, expected_rows(encoder, made, x, mask))


@pytest.mark.parametrize("count", [1, 3])
def test_cls_row_of_frozen_input(encoder, mask, count):
    made, layer = models(encoder, "cls", count), encoder.layer(0)
    x = make_tensor(1, B, S, H, dtype=torch.float64)
    query, key, value = project_qkv(x, layer).chunk(3, -1)
    found = cached_cls_layer(query[:, :, 0], key, value, x, mask, layer, own(made))
    close(found, expected_rows(encoder, made, x, mask)[:, :, 0])


@pytest.mark.parametrize("count", [1, 3])
def test_cls_row_of_own_input(encoder, mask, count):
    made, layer = models(encoder, "cls", count), encoder.layer(0)
    x = make_tensor(count, B, S, H, dtype=torch.float64)
    found = cls_layer(x, mask, layer, own(made))
    close(found, expected_rows(encoder, made, x, mask)[:, :, 0])


def test_mixture_of_products_is_the_product_of_the_mixture(encoder, mask):
    """The search may mix cached and own products instead of projecting the mixed input."""
    made, layer = models(encoder, "all", 1), encoder.layer(0)
    x_p, x_f = (make_tensor(1, B, S, H, dtype=torch.float64, seed=seed) for seed in (1, 2))
    mixed, p = torch.lerp(x_p, x_f, 0.3), 0.3
    products = (1 - p) * project_qkv(x_p, layer) + p * project_qkv(x_f, layer)
    found = full_layer(products, mixed, mask, layer, own(made))
    close(found, full_layer(project_qkv(mixed, layer), mixed, mask, layer, own(made)))


@pytest.mark.parametrize("kind", ["all", "cls"])
def test_gradients_equal_those_of_the_dense_layer(encoder, mask, kind):
    """Of every parameter and of the input, through the ops and through merged weights."""
    model, layer = models(encoder, kind, 1)[0], encoder.layer(0)
    parameters = list(model.task_layer(0).parameters())
    x = make_tensor(1, B, S, H, dtype=torch.float64, grad=True)
    weights = make_tensor(1, B, H, dtype=torch.float64, seed=9)

    def gradients(rows):
        return torch.autograd.grad((rows * weights).sum(), [x, *parameters])

    if kind == "all":
        products = project_qkv(x, layer)
        found = gradients(full_layer(products, x, mask, layer, own([model]))[:, :, 0])
    else:
        found = gradients(cls_layer(x, mask, layer, own([model])))
    expected = gradients(expected_rows(encoder, [model], x, mask)[:, :, 0])
    for actual, wanted in zip(found, expected):
        close(actual, wanted)
        assert actual.abs().sum() > 0 or actual.numel() == 0
