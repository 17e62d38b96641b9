import itertools

import pytest
import torch.nn.functional as F

from lets_ext import cls_tail
from tests.factories import make_delta, make_tensor

LAYERS = 6  # weights of several layers in turn: they come from memory, as in an engine


@pytest.mark.parametrize("density", [0.0, 0.005])
@pytest.mark.parametrize(("tasks", "rows"), [(1, 1), (9, 1), (16, 1), (9, 8)])
@pytest.mark.parametrize("hidden", [768, 1024])
def bench_cls_tail(compare, hidden, tasks, rows, density):
    inner = 4 * hidden
    sizes = {"out": (hidden, hidden), "up": (inner, hidden), "down": (hidden, inner)}
    first = {f"{name}_weight": make_tensor(*size) * 0.02 for name, size in sizes.items()}
    weights = [{name: weight.clone() for name, weight in first.items()} for _ in range(LAYERS)]
    vectors = {
        name: make_tensor(tasks, hidden)
        for name in ("out_bias", "attn_norm_weight", "attn_norm_bias", "down_bias")
    } | {"norm_weight": make_tensor(tasks, hidden), "norm_bias": make_tensor(tasks, hidden)}
    vectors["up_bias"] = make_tensor(tasks, inner)
    deltas = {
        f"{name}_delta": make_delta(tasks, *size, density)
        for name, size in sizes.items()
        if density
    }
    ctx, residual = make_tensor(tasks, rows, hidden), make_tensor(tasks, rows, hidden, seed=1)
    turns = {name: itertools.cycle(weights) for name in ("ours", "stacked", "tasks")}

    def chain(w, x, res):
        """The dense tail of one task; for all rows at once it has no deltas and shared vectors."""
        v = {name: vector[0] for name, vector in vectors.items()}
        h = F.linear(x, w["out_weight"], v["out_bias"]) + res
        h = F.layer_norm(h, (hidden,), v["attn_norm_weight"], v["attn_norm_bias"], 1e-12)
        inner = F.gelu(F.linear(h, w["up_weight"], v["up_bias"]))
        h = h + F.linear(inner, w["down_weight"], v["down_bias"])
        return F.layer_norm(h, (hidden,), v["norm_weight"], v["norm_bias"], 1e-12)

    def every_task():
        # Merged weights are a matrix per task: each chain reads its own.
        for t in range(tasks):
            chain(next(turns["tasks"]), ctx[t], residual[t])

    compare(
        "cls_tail",
        {"hidden": hidden, "tasks": tasks, "rows": rows, "density": density},
        lambda: cls_tail(ctx, residual, **next(turns["ours"]), **vectors, **deltas),
        {
            "F.linear chain, stacked rows": lambda: chain(
                next(turns["stacked"]), ctx.flatten(0, 1), residual.flatten(0, 1)
            ),
            "F.linear chain per task, merged weights": every_task,
        },
    )
