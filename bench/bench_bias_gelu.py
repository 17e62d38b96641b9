import pytest
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
