"""Compressed encoders: each task has a small encoder of its own, fully fine-tuned; costs alone.

To train one, give its folder as the encoder of `full`.
"""

from __future__ import annotations

from lets.baselines.base import Costs, Sizes, SystemCost, same_costs
from lets.cost import encoder_flops
from lets.metrics import Chain, TaskLoad
from lets.mobilebert import MOBILEBERTS
from lets.shape import EncoderShape

# Name in the paper's Table 3 → built-in shape.
_SHAPES = {
    "distilbert-4": "distilbert-4",
    "distilbert-6": "distilbert-base",
    "tinybert-4": "tinybert-4",
    "tinybert-6": "tinybert-6",
}
COMPRESSED = (*_SHAPES, *MOBILEBERTS)


def compressed_costs(name: str, sizes: Sizes) -> Costs:
    """Nothing is shared: so many encoders as tasks, of the compressed one's size."""
    if name in MOBILEBERTS:
        mobile = MOBILEBERTS[name]
        flops, params = mobile.flops(sizes.seq_len), mobile.num_parameters
    else:
        shape = EncoderShape.from_name(_SHAPES[name])
        flops, params = encoder_flops(shape, sizes.seq_len), shape.num_parameters
    load = TaskLoad((Chain(flops, 0),), new_params=params)
    return same_costs(SystemCost(load, shares_encoder=False))
