"""FLOPs of a run as torch's counter sees them, with the cost model's prices for our own ops.

    with FlopCounterMode(custom_mapping=flop_formulas()) as counter:
        ...

counts what really ran, from the shapes that really occurred; `lets.cost` predicts the same number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import sdpa_flop_count

from lets.cost import op_cost

Arguments = Mapping[str, Any]


def flop_formulas() -> dict[Any, Callable[..., int]]:
    """Formulas for the forward ops of `lets_ext`, and for fused CPU ops that torch leaves out."""
    import lets_ext  # noqa: F401  (defines torch.ops.lets_ext)

    formulas: dict[Any, Callable[..., int]] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _sdpa,
        torch.ops.aten.mkldnn_rnn_layer: _lstm_direction,
        torch.ops.mkldnn._linear_pointwise: _packed_linear,
    }
    for name, formula in _OPS.items():
        if hasattr(torch.ops.lets_ext, name):
            packet = getattr(torch.ops.lets_ext, name)
            formulas[packet] = _named(packet, formula)
    return formulas


def _named(packet: Any, formula: Callable[[Arguments], int]) -> Callable[..., int]:
    names = [argument.name for argument in packet.default._schema.arguments]

    def count(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        return formula({**dict(zip(names, args)), **kwargs})

    count._get_raw = True  # type: ignore[attr-defined]  # tensors instead of shapes
    return count


def _sdpa(
    query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    return sdpa_flop_count(query, key, value)


def _packed_linear(x: Any, weight: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * math.prod(x) * weight[0]


def _lstm_direction(x: Any, w_in: Any, w_state: Any, *args: Any, **kwargs: Any) -> int:
    steps, batch, features = x
    return 2 * steps * batch * w_in[0] * (features + w_state[1])


def _delta_linear(a: Arguments) -> int:
    _, tokens, in_features = a["x"].shape
    sizes = {"tokens": tokens, "in_features": in_features, "out_features": a["base"].shape[-1]}
    return op_cost("delta_linear", nnz=a["values"].numel(), tasks=a["num_tasks"], **sizes).flops


def _cls_attention(a: Arguments) -> int:
    tasks, batch, hidden = a["q"].shape
    return op_cost(
        "cls_attention",
        batch=batch,
        seq_len=a["x"].shape[2],
        hidden=hidden,
        num_heads=a["num_heads"],
        key_nnz=_numel(a["key_values"]),
        value_nnz=_numel(a["value_values"]),
        cached=a["key"] is not None,
        tasks=tasks,
    ).flops


def _cls_tail(a: Arguments) -> int:
    tasks, rows, hidden = a["ctx"].shape
    nnz = sum(_numel(a[name]) for name in ("out_values", "up_values", "down_values"))
    sizes = {"rows": rows, "hidden": hidden, "intermediate": a["up_weight"].shape[0]}
    return op_cost("cls_tail", nnz=nnz, tasks=tasks, **sizes).flops


def _cls_tail_layers(a: Arguments) -> int:
    total = 0
    for i, ctx in enumerate(a["ctx"]):
        nnz = sum(values.numel() for values in a["deltas"][9 * i : 9 * i + 9 : 3])
        inner = a["weights"][3 * i + 1].shape[0]
        sizes = {"rows": ctx.shape[1], "hidden": ctx.shape[2], "intermediate": inner}
        total += op_cost("cls_tail", nnz=nnz, tasks=ctx.shape[0], **sizes).flops
    return total


def _numel(values: Tensor | None) -> int:
    return 0 if values is None else values.numel()


_OPS: dict[str, Callable[[Arguments], int]] = {
    "delta_linear": _delta_linear,
    "cls_attention": _cls_attention,
    "cls_tail": _cls_tail,
    "cls_tail_layers": _cls_tail_layers,
    "add_layer_norm": lambda _: 0,
    "bias_gelu": lambda _: 0,
}
