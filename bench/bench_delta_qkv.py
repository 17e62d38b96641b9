import itertools

import pytest
import torch

from lets_ext import delta_qkv
from tests.factories import make_delta, make_tensor

LAYERS = 12  # the layers of a model in turn: activations and deltas come from where an engine's do


class Layer:
    """One layer's inputs, as ours takes them and as the stock forms do."""

    def __init__(self, tasks, hidden, tokens, density, seed):
        self.delta = make_delta(tasks, 3 * hidden, hidden, density, seed=seed)
        self.base = make_tensor(1, tokens, 3 * hidden, seed=seed)
        self.x = make_tensor(1, tokens, hidden, seed=seed + 1)
        dense = self.delta.to_dense()
        self.csr = [matrix.to_sparse_csr() for matrix in dense]
        # The stock form has its activations feature-major already; turning them is not charged.
        self.base_t, self.x_t = self.base[0].T.contiguous(), self.x[0].T.contiguous()
        self.dense_t = dense[0].T.contiguous()


def in_turn(layers, run):
    turns = itertools.cycle(layers)
    return lambda: run(next(turns))


@pytest.mark.parametrize("density", [0.001, 0.0025, 0.005, 0.01])
@pytest.mark.parametrize("tokens", [128, 1024])
@pytest.mark.parametrize("hidden", [768, 1024])
def bench_delta_qkv(compare, hidden, tokens, density):
    layers = [Layer(1, hidden, tokens, density, seed) for seed in range(LAYERS)]
    peers = {
        "torch CSR addmm, feature-major": lambda y: torch.addmm(y.base_t, y.csr[0], y.x_t),
        "torch CSR addmm, token-major": lambda y: y.base[0] + (y.csr[0] @ y.x[0].T).T,
        "dense addmm": lambda y: torch.addmm(y.base[0], y.x[0], y.dense_t),
        "copy floor (base + 0)": lambda y: y.base + 0,
    }
    compare(
        "delta_qkv",
        {"hidden": hidden, "tokens": tokens, "density": density},
        in_turn(layers, lambda y: delta_qkv(y.base, y.x, y.delta)),
        {name: in_turn(layers, run) for name, run in peers.items()},
    )


@pytest.mark.parametrize("density", [0.0025, 0.005])
@pytest.mark.parametrize("hidden", [768, 1024])
def bench_delta_qkv_of_tasks(compare, hidden, density, tasks=4, tokens=128):
    """The deltas of several tasks on one x and base, as an engine's stacked steps have them."""
    layers = [Layer(tasks, hidden, tokens, density, seed) for seed in range(LAYERS)]
    peers = {
        "torch CSR addmm, feature-major": lambda y: [
            torch.addmm(y.base_t, csr, y.x_t) for csr in y.csr
        ],
        "copy floor (base + 0)": lambda y: y.base.expand(tasks, -1, -1) + 0,
    }
    compare(
        "delta_qkv",
        {"hidden": hidden, "tokens": tokens, "density": density, "tasks": tasks},
        in_turn(layers, lambda y: delta_qkv(y.base, y.x, y.delta)),
        {name: in_turn(layers, run) for name, run in peers.items()},
    )
