"""What systems cost on the paper's encoders, from the cost model alone."""

from __future__ import annotations

from typing import Any

from lets.baselines import system_costs
from lets.baselines.base import Sizes, SystemCost, same_costs
from lets.cost import encoder_flops
from lets.metrics import Chain, SystemMetrics, TaskLoad
from lets.policy import Policy
from lets.reproduce.cell import NUM_TASKS
from lets.shape import EncoderShape

SEQ_LEN = 128

# Compressed encoders of table 3; MobileBERT's bottleneck layers are not the cost model's.
_COMPRESSED = {
    "distilbert": (6, 768, 12, 3072),
    "distilbert-4": (4, 768, 12, 3072),
    "tinybert-6": (6, 768, 12, 3072),
    "tinybert-4": (4, 312, 12, 1200),
}
_SEARCHED = ("lets-pc", "lets-c")


def analytic(system: str, encoder: str, density: float = 0.005) -> dict[str, SystemMetrics] | None:
    """Metrics of nine tasks by accounting; None where no one can know.

    The paper names no searched policy; of LeTS-G-g it names the groups alone, so that pooled rows
    and bypassed layers are unknown: they are counted as if nothing was bypassed.
    """
    shape = EncoderShape.from_name(encoder)
    if system in _COMPRESSED:
        costs: dict[str, SystemCost] = same_costs(_compressed(system, shape))
    elif system in _SEARCHED or system.startswith("mobilebert"):
        return None
    else:
        costs = system_costs(system, Sizes(shape, SEQ_LEN, density=density))
    dense = encoder_flops(shape, SEQ_LEN)
    return {name: cost.metrics(dense, shape, NUM_TASKS) for name, cost in costs.items()}


def example(policy: Policy, encoder: str) -> dict[str, SystemMetrics]:
    """LeTS-(p,c) with a policy that is known."""
    shape = EncoderShape.from_name(encoder)
    costs = system_costs("lets-pc", Sizes(shape, SEQ_LEN, policy=policy))
    dense = encoder_flops(shape, SEQ_LEN)
    return {name: cost.metrics(dense, shape, NUM_TASKS) for name, cost in costs.items()}


def _compressed(system: str, like: EncoderShape) -> SystemCost:
    """A fine-tuned copy per task of an encoder with BERT's vocabulary."""
    layers, hidden, heads, intermediate = _COMPRESSED[system]
    config: dict[str, Any] = {
        "model_type": "distilbert" if system.startswith("distilbert") else "bert",
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
    names = (
        ("n_layers", "dim", "n_heads", "hidden_dim")
        if config["model_type"] == "distilbert"
        else ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    )
    config |= dict(zip(names, (layers, hidden, heads, intermediate)))
    shape = EncoderShape.from_config(config, system)
    load = TaskLoad((Chain(encoder_flops(shape, SEQ_LEN), 0),), new_params=shape.num_parameters)
    return SystemCost(load, shares_encoder=False)
