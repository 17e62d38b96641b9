"""How tasks read the products of Q, K, V: whole or in parts; each wants another layout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lets.encoder import Encoder
from lets.layers import FrozenLayer
from lets.plan.compile import compile_plan
from lets.plan.spec import TaskSpec
from lets.plan.step import Plan
from lets.products import is_packed

_PARTS = ("project_query", "project_key_value")


def packed_for(encoder: Encoder, tasks: Iterable[TaskSpec]) -> Encoder:
    """The encoder with the projections as all these tasks together read them.

    Some of the tasks alone may read other ones: slower, since these are unpacked for every call.
    """
    specs = [task for task in tasks if not task.dense]  # which read matrices of their own
    if not specs:
        return encoder
    return packed_as_read(encoder, compile_plan(encoder.shape, specs, stacked=False))


def packed_as_read(encoder: Encoder, plan: Plan) -> Encoder:
    """The encoder with the projections as the steps of a plan read them."""
    steps = plan.steps
    whole = {j for step in steps if step.op == "project" and (j := step.layer) is not None}
    # Attention on a query and an input, without products, reads W_K and W_V themselves.
    parts = {
        j
        for step in steps
        if step.op in _PARTS or (step.op == "cls_attention" and len(step.inputs) == 2)
        if (j := step.layer) is not None
    }
    return encoder.with_projections(whole, parts)


def packed_layer(encoder: Encoder, layer: FrozenLayer, all_rows: bool) -> FrozenLayer:
    """A dense task's own layer, packed if the encoder's are.

    Args:
        all_rows: Whether its projections are read whole, and not in parts for the [CLS] row.
    """
    if not is_packed(encoder.layers[0].out_weight):
        return layer
    packed = replace(layer, weights=layer.weights.packed())
    return packed.with_projections(whole=all_rows, parts=not all_rows)
