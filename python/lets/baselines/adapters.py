"""Adapters (Houlsby et al., 2019): two bottlenecks in every layer, and the LayerNorms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from lets.baselines.base import (
    Costs,
    Sizes,
    SystemResult,
    SystemRun,
    check_number,
    own_pass_costs,
)
from lets.baselines.ordinary import train_part
from lets.weights import layer_modules, matrix_paths

SIZES = (8, 64, 256)  # of which the chosen one is the best, as in the paper
_SPREAD = 1e-3  # of new weights: an adapter starts next to the identity


class Adapter(nn.Module):
    """A matrix of the encoder followed by y + up(gelu(down(y)))."""

    def __init__(self, inner: nn.Linear, size: int) -> None:
        super().__init__()
        self.inner = inner
        self.down = nn.Linear(inner.out_features, size)
        self.up = nn.Linear(size, inner.out_features)
        for linear in (self.down, self.up):
            nn.init.normal_(linear.weight, std=_SPREAD)
            nn.init.zeros_(linear.bias)
        self.to(inner.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y + self.up(F.gelu(self.down(y)))


def adapters(run: SystemRun, number: int) -> SystemResult:
    """Adapters of a width."""
    costs = adapters_costs(Sizes.of(run), number)

    def prepare(model: Any) -> None:
        paths = matrix_paths(model)
        for layer in layer_modules(model.base_model):
            for name in ("out", "down"):
                adapter = Adapter(layer.get_submodule(paths[name]), number)
                layer.set_submodule(paths[name], adapter)
            for module in layer.modules():
                if isinstance(module, nn.LayerNorm):
                    module.requires_grad_(True)

    return train_part(run, f"adapters-{number}", prepare, run.inputs.config.light, costs)


def chosen_adapters(run: SystemRun) -> SystemResult:
    """Of all `SIZES` the one with the best score on the rows that choose checkpoints."""
    results = {n: adapters(replace(run, folder=run.folder / str(n)), n) for n in SIZES}
    scores = {n: max(e["score"] for e in result.history) for n, result in results.items()}
    size = max(SIZES, key=lambda n: scores[n])
    seconds = {name: s for result in results.values() for name, s in result.seconds.items()}
    details = {**results[size].details, "size": size, "scores": {str(n): scores[n] for n in SIZES}}
    return replace(results[size], seconds=seconds, details=details)


def adapters_costs(sizes: Sizes, number: int) -> Costs:
    check_number(f"adapters-{number}", number, 1)
    shape, hidden = sizes.shape, sizes.shape.hidden_size
    adapter = 2 * hidden * number + number + hidden
    params = shape.num_layers * (2 * adapter + 4 * hidden)
    flops = shape.num_layers * 2 * (4 * sizes.seq_len * hidden * number)
    return own_pass_costs(sizes, params, flops)


def chosen_adapters_costs(sizes: Sizes) -> Costs:
    """Those of the mean size: tasks choose different ones."""
    return adapters_costs(sizes, round(sum(SIZES) / len(SIZES)))
