"""Overlap of masks, and the ways of finding them."""

import torch
from lets.config import FitConfig
from lets.train.masks import at_positions

from bench.glue.masks import overlap, ways


def masks(*positions):
    matrix = torch.arange(12.0).reshape(3, 4)
    return {0: {"out": at_positions(torch.tensor(positions), matrix)}}


def test_overlap():
    reference = masks(0, 3, 5, 11)
    assert overlap(reference, reference) == 1
    assert overlap(masks(1, 3, 4, 11), reference) == 0.5
    assert overlap(masks(1, 2, 4, 6), reference) == 0


def test_ways():
    found = ways(FitConfig(), final_steps=300)
    inits = {name: config.prune.init for name, config in found.items()}
    assert inits == {
        "final": "warmup", "gradient": "warmup", "random": "random", "magnitude": "magnitude"
    }  # fmt: skip
    steps = {name: config.prune.warmup_steps for name, config in found.items()}
    assert steps["final"] == steps["magnitude"] == 300 > steps["gradient"]
    assert {config.variant for config in found.values()} == {"p"}
