import pytest
import torch

from lets_ext import Delta, delta_linear
from tests.factories import make_delta, make_tensor


@pytest.mark.parametrize("tokens", [1, 8, 32])
@pytest.mark.parametrize(("in_features", "out_features"), [(768, 768), (768, 3072), (3072, 768)])
def bench_delta_linear_few_rows(compare, in_features, out_features, tokens):
    delta = make_delta(1, out_features, in_features, 0.005)
    base, x = make_tensor(1, tokens, out_features), make_tensor(1, tokens, in_features)
    dense_t = delta.to_dense()[0].T.contiguous()
    compare(
        "delta_linear",
        {"in": in_features, "out": out_features, "tokens": tokens, "density": 0.005},
        lambda: delta_linear(base, x, delta),
        {"dense addmm": lambda: torch.addmm(base[0], x[0], dense_t)},
    )


@pytest.mark.parametrize("density", [0.005, 0.01])
@pytest.mark.parametrize(("in_features", "out_features"), [(384, 1152), (384, 1536), (1536, 384)])
def bench_delta_linear_training(compare, in_features, out_features, density):
    """Forward and backward of a training step: B * S = 2048 rows."""
    delta = make_delta(1, out_features, in_features, density, grad=True)
    base = make_tensor(1, 2048, out_features)
    x = make_tensor(1, 2048, in_features, grad=True)
    grad = make_tensor(1, 2048, out_features, seed=5)
    layout, leaves = delta.layout, (x, delta.values)

    def step(forward):
        with torch.inference_mode(False), torch.enable_grad():
            torch.autograd.grad(forward(), leaves, grad)

    compare(
        "delta_linear",
        {
            "in": in_features,
            "out": out_features,
            "tokens": 2048,
            "density": density,
            "mode": "train",
        },
        lambda: step(lambda: delta_linear(base, x, Delta(layout, leaves[1]))),
        {"dense matmul": lambda: step(lambda: base + x @ Delta(layout, leaves[1]).to_dense().mT)},
    )
