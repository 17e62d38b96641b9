import pytest
import torch
import torch.nn.functional as F

from lets_ext import bias_gelu
from tests.factories import make_tensor


@pytest.mark.parametrize("rows", [9, 128, 1024])
@pytest.mark.parametrize("features", [3072, 4096])
def bench_bias_gelu(compare, rows, features):
    x, bias = make_tensor(1, rows, features), make_tensor(1, features)
    compare(
        "bias_gelu",
        {"rows": rows, "features": features},
        lambda: bias_gelu(x, bias),
        {"add, gelu": lambda: F.gelu(x + bias)},
    )


@pytest.mark.parametrize("rows", [128, 2048])
def bench_bias_gelu_bwd(compare, rows, features=3072):
    x, grad = (make_tensor(1, rows, features, seed=seed) for seed in (0, 1))
    bias = make_tensor(1, features, seed=2)

    def ours():
        grad_x, sums = torch.ops.lets_ext.bias_gelu_bwd(grad, x, bias)
        return grad_x, sums.sum(0)

    def theirs():
        grad_x = torch.ops.aten.gelu_backward(grad, x + bias)
        return grad_x, grad_x.sum(1)

    shape = {"rows": rows, "features": features}
    compare("bias_gelu_bwd", shape, ours, {"add, gelu backward, sum": theirs})
