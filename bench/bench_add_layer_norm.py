import pytest
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
