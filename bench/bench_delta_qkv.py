import itertools

import pytest
import torch

from lets_ext import delta_qkv
from tests.factories import make_delta, make_tensor

LAYERS = 12  # the layers of a model in turn: activations and deltas come from where an engine's do


class Layer:
    """One layer's inputs, as ours takes them and as the stock forms do."""

    def __init__(self, hidden, tokens, density, seed):
        self.delta = make_delta(1, 3 * hidden, hidden, density, seed=seed)
        self.base = make_tensor(1, tokens, 3 * hidden, seed=seed)
        self.x = make_tensor(1, tokens, hidden, seed=seed + 1)
        layout = self.delta.layout
        self.csr = torch.sparse_csr_tensor(
            layout.crow_indices, layout.col_indices, self.delta.values, (3 * hidden, hidden)
        )
        # The stock form has its activations feature-major already; turning them is not charged.
        self.base_t, self.x_t = self.base[0].T.contiguous(), self.x[0].T.contiguous()
        self.dense_t = self.delta.to_dense()[0].T.contiguous()


@pytest.mark.parametrize("density", [0.001, 0.0025, 0.005, 0.01])
@pytest.mark.parametrize("tokens", [128, 1024])
@pytest.mark.parametrize("hidden", [768, 1024])
def bench_delta_qkv(compare, hidden, tokens, density):
    layers = [Layer(hidden, tokens, density, seed) for seed in range(LAYERS)]

    def in_turn(run):
        turns = itertools.cycle(layers)
        return lambda: run(next(turns))

    compare(
        "delta_qkv",
        {"hidden": hidden, "tokens": tokens, "density": density},
        in_turn(lambda layer: delta_qkv(layer.base, layer.x, layer.delta)),
        {
            "torch CSR addmm, feature-major": in_turn(
                lambda layer: torch.addmm(layer.base_t, layer.csr, layer.x_t)
            ),
            "torch CSR addmm, token-major": in_turn(
                lambda layer: layer.base[0] + (layer.csr @ layer.x[0].T).T
            ),
            "dense addmm": in_turn(
                lambda layer: torch.addmm(layer.base[0], layer.x[0], layer.dense_t)
            ),
            "copy floor (base + 0)": in_turn(lambda layer: layer.base + 0),
        },
    )
