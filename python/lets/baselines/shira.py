"""SHiRA through `peft`: a random sparse change of every matrix of the layers."""

from __future__ import annotations

from lets.baselines.base import Costs, Sizes, SystemResult, SystemRun, own_pass_costs
from lets.baselines.injected import matrix_sizes, train_injected

_MATRICES = ("query", "key", "value", "out", "up", "down")


def shira(run: SystemRun) -> SystemResult:
    sizes = Sizes.of(run)
    settings = {"r": shira_rank(sizes), "random_seed": run.inputs.config.seed}
    return train_injected(run, "shira", "ShiraConfig", _MATRICES, shira_costs(sizes), **settings)


def shira_rank(sizes: Sizes) -> int:
    """peft takes r·(in + out) places of a matrix: about the density in the square ones."""
    return max(1, round(sizes.density * sizes.shape.hidden_size / 2))


def shira_costs(sizes: Sizes) -> Costs:
    shape, rank = sizes.shape, shira_rank(sizes)
    ends = matrix_sizes(shape.hidden_size, shape.intermediate_size).values()
    kept = shape.num_layers * rank * sum(map(sum, ends))
    return own_pass_costs(sizes, kept, 2 * sizes.seq_len * kept, mask=kept)
