import pytest
import torch

from lets_ext import delta_qkv
from tests.factories import make_delta, make_tensor


@pytest.mark.parametrize("density", [0.001, 0.0025, 0.005, 0.01])
@pytest.mark.parametrize("tokens", [128, 1024])
@pytest.mark.parametrize("hidden", [768, 1024])
def bench_delta_qkv(compare, hidden, tokens, density):
    delta = make_delta(1, 3 * hidden, hidden, density)
    base, x = make_tensor(1, tokens, 3 * hidden), make_tensor(1, tokens, hidden)
    layout = delta.layout
    csr = torch.sparse_csr_tensor(
        layout.crow_indices, layout.col_indices, delta.values, (3 * hidden, hidden)
    )
    # The stock form has its activations feature-major already; turning them is not charged to it.
    base_t, x_t = base[0].T.contiguous(), x[0].T.contiguous()
    dense_t = delta.to_dense()[0].T.contiguous()
    compare(
        "delta_qkv",
        {"hidden": hidden, "tokens": tokens, "density": density},
        lambda: delta_qkv(base, x, delta),
        {
            "torch CSR addmm, feature-major": lambda: torch.addmm(base_t, csr, x_t),
            "torch CSR addmm, token-major": lambda: base[0] + (csr @ x[0].T).T,
            "dense addmm": lambda: torch.addmm(base[0], x[0], dense_t),
            "copy floor (base + 0)": lambda: base + 0,
        },
    )
