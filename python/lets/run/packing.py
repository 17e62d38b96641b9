"""How tasks read the products of Q, K, V: whole or in parts; each wants another layout."""

from __future__ import annotations

from collections.abc import Iterable

from lets.encoder import Encoder
from lets.plan.compile import compile_plan
from lets.plan.spec import TaskSpec

_PARTS = ("project_query", "project_key_value")


def packed_for(encoder: Encoder, tasks: Iterable[TaskSpec]) -> Encoder:
    """The encoder with the projections as all these tasks together read them.

    Some of the tasks alone may read other ones: slower, since these are unpacked for every call.
    """
    specs = list(tasks)
    if not specs:
        return encoder
    steps = compile_plan(encoder.shape, specs, stacked=False).steps
    whole = {j for step in steps if step.op == "project" and (j := step.layer) is not None}
    # Attention on a query and an input, without products, reads W_K and W_V themselves.
    parts = {
        j
        for step in steps
        if step.op in _PARTS or (step.op == "cls_attention" and len(step.inputs) == 2)
        if (j := step.layer) is not None
    }
    return encoder.with_projections(whole, parts)
