"""The policies of a benchmark: presets, files, random ones of a given cost, and mixtures."""

from __future__ import annotations

import random

from lets.cost import encoder_flops
from lets.errors import LetsError
from lets.policy import Policy
from lets.policy_cost import task_cost
from lets.shape import EncoderShape

NEW_OPS = 0.43  # of the encoder: what the paper's searched policies take
_SEQ_LEN = 128  # random policies are priced here, so that they are the same at every length
_DRAWS, _NEAR = 400, 0.01


def task_policies(
    spec: str, shape: EncoderShape, count: int, density: float, seed: int
) -> list[Policy]:
    """One policy per task.

    Args:
        spec: fig2b, g-<groups>, random (another one per task), a JSON file, or several of these
            joined by `+`, which the tasks take in turn.
    """
    parts = spec.split("+")
    if not all(parts):
        raise LetsError(f"bench: policy must not have empty parts, got {spec!r}")
    fixed = {
        part: Policy.from_spec(part, shape.num_layers, shape.name)
        for part in parts
        if part != "random"
    }
    chosen = (parts[task % len(parts)] for task in range(count))
    return [
        fixed[part] if part in fixed else random_policy(shape, density, seed + task)
        for task, part in enumerate(chosen)
    ]


def random_policy(shape: EncoderShape, density: float, seed: int) -> Policy:
    """A drawn policy whose new operations come as near as need be to 43% of the encoder."""
    draw = random.Random(seed)
    dense = encoder_flops(shape, _SEQ_LEN)
    best, distance = None, float("inf")
    for _ in range(_DRAWS):
        share = draw.random()
        letters = [
            "".join("f" if draw.random() < share else "p" for _ in range(shape.num_layers))
            for _ in range(2)
        ]
        policy = Policy("p" + letters[0][1:], letters[1])
        off = abs(task_cost(shape, policy, _SEQ_LEN, density).total.flops / dense - NEW_OPS)
        if off < distance:
            best, distance = policy, off
        if distance < _NEAR:
            break
    assert best is not None
    return best
