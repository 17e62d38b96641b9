import pytest
import torch
import torch.nn.functional as F

from lets_ext import add_layer_norm
from tests.factories import make_tensor


@pytest.mark.parametrize("rows", [9, 128, 1024])
@pytest.mark.parametrize("hidden", [768, 1024])
def bench_add_layer_norm(compare, rows, hidden):
    x, residual = make_tensor(1, rows, hidden), make_tensor(1, rows, hidden, seed=1)
    weight, norm_bias, bias = (make_tensor(1, hidden, seed=seed) for seed in (2, 3, 4))
    compare(
        "add_layer_norm",
        {"rows": rows, "hidden": hidden},
        lambda: add_layer_norm(x, residual, weight, norm_bias, bias),
        {
            "add, add, layer_norm": lambda: F.layer_norm(
                x + residual + bias, (hidden,), weight[0], norm_bias[0], 1e-12
            ),
            "add, layer_norm": lambda: F.layer_norm(
                x + residual, (hidden,), weight[0], norm_bias[0], 1e-12
            ),
        },
    )


@pytest.mark.parametrize("rows", [128, 2048])
def bench_add_layer_norm_bwd(compare, rows, hidden=768):
    x, residual, grad = (make_tensor(1, rows, hidden, seed=seed) for seed in range(3))
    weight, norm_bias, bias = (make_tensor(1, hidden, seed=seed) for seed in (3, 4, 5))
    ops, aten = torch.ops.lets_ext, torch.ops.aten
    _, mean, rstd = ops.add_layer_norm(x, residual, weight, norm_bias, bias, 1e-12)

    def ours():
        grad_x, sums = ops.add_layer_norm_bwd(grad, x, residual, weight, bias, mean, rstd)
        return grad_x, sums.sum(1)

    def theirs():
        total, moments = x + residual + bias, (mean[..., None], rstd[..., None])
        grad_x, *vectors = aten.native_layer_norm_backward(
            grad, total, [hidden], *moments, weight[0], norm_bias[0], [True, True, True]
        )
        return grad_x, vectors, grad_x.sum(1)

    shape = {"rows": rows, "hidden": hidden}
    compare("add_layer_norm_bwd", shape, ours, {"add, add, layer_norm backward, sum": theirs})
