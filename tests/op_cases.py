"""Inputs of any size for every op, with its reference: what property tests draw from."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st

from lets_ext import (
    Delta,
    add_layer_norm,
    add_layer_norm_ref,
    bias_gelu,
    bias_gelu_ref,
    cls_attention,
    cls_attention_ref,
    cls_tail,
    cls_tail_layers,
    cls_tail_ref,
    delta_linear,
    delta_linear_ref,
    delta_qkv,
    delta_qkv_ref,
)
from tests.factories import make_delta, make_tensor

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.float16: 5e-2, torch.bfloat16: 3e-1}


@dataclass(frozen=True)
class Sizes:
    """T tasks, N rows, I and O features (H: heads times I)."""

    tasks: int
    rows: int
    inputs: int
    outputs: int
    heads: int
    shared: bool
    density: float
    dtype: torch.dtype
    seed: int

    @property
    def leading(self) -> int:
        return 1 if self.shared else self.tasks

    def tensor(self, *shape):
        return make_tensor(*shape, dtype=self.dtype, seed=self.seed + len(shape) * sum(shape))

    def delta(self, outputs, inputs):
        return make_delta(self.tasks, outputs, inputs, self.density, self.dtype, self.seed)


SIZES = st.builds(
    Sizes,
    tasks=st.integers(1, 3),
    rows=st.sampled_from([0, 1, 2, 3, 7, 13, 33]),
    inputs=st.sampled_from([1, 2, 3, 7, 17, 31]),
    outputs=st.sampled_from([1, 2, 5, 13, 37]),
    heads=st.integers(1, 3),
    shared=st.booleans(),
    density=st.sampled_from([0.0, 0.1, 1.0]),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)


def linear_case(s):
    tensors = {
        "base": s.tensor(s.leading, s.rows, s.outputs),
        "x": s.tensor(s.tasks, s.rows, s.inputs),
        "delta": s.delta(s.outputs, s.inputs),
        "bias": s.tensor(s.tasks, s.outputs),
    }
    return delta_linear, delta_linear_ref, tensors


def qkv_case(s):
    tensors = {
        "base": s.tensor(s.leading, s.rows, 3 * s.inputs),
        "x": s.tensor(s.leading, s.rows, s.inputs),
        "delta": s.delta(3 * s.inputs, s.inputs),
        "bias": s.tensor(s.tasks, 3 * s.inputs),
    }
    return delta_qkv, delta_qkv_ref, tensors


def norm_case(s):
    vector = (s.leading, s.inputs)
    tensors = {
        "x": s.tensor(s.tasks, s.rows, s.inputs),
        "residual": s.tensor(s.leading, s.rows, s.inputs),
        "weight": s.tensor(*vector),
        "norm_bias": s.tensor(*vector),
        "bias": s.tensor(*vector),
    }
    return (
        lambda **t: add_layer_norm(**t, eps=1e-2),
        lambda **t: add_layer_norm_ref(**t, eps=1e-2),
        tensors,
    )


def gelu_case(s):
    tensors = {
        "x": s.tensor(s.tasks, s.rows, s.outputs),
        "bias": s.tensor(s.leading, s.outputs),
    }
    return bias_gelu, bias_gelu_ref, tensors


def attention_case(s):
    """Rows are sequences of a few tokens."""
    hidden, length = s.heads * s.inputs, 1 + s.outputs % 6
    tokens = (s.leading, s.rows, length, hidden)
    tensors = {
        "q": s.tensor(s.tasks, s.rows, hidden),
        "x": s.tensor(*tokens),
        "key": s.tensor(*tokens),
        "value_weight": s.tensor(hidden, hidden) / hidden**0.5,
        "key_delta": s.delta(hidden, hidden),
        "value_delta": s.delta(hidden, hidden),
        "value_bias": s.tensor(s.tasks, hidden),
        "attn_bias": s.tensor(s.heads, length),
    }
    scale = 1 / (4 * hidden)
    return (
        lambda **t: cls_attention(**t, num_heads=s.heads, scale=scale),
        lambda **t: cls_attention_ref(**t, num_heads=s.heads, scale=scale),
        tensors,
    )


def tail_case(s):
    hidden, inner = s.inputs, s.outputs
    vectors = {
        name: s.tensor(s.leading, inner if name == "up_bias" else hidden)
        for name in ("out_bias", "attn_norm_weight", "attn_norm_bias", "up_bias", "down_bias",
                     "norm_weight", "norm_bias")
    }  # fmt: skip
    tensors = {
        "ctx": s.tensor(s.tasks, s.rows, hidden),
        "residual": s.tensor(s.leading, s.rows, hidden),
        "out_weight": s.tensor(hidden, hidden) / hidden**0.5,
        "up_weight": s.tensor(inner, hidden) / hidden**0.5,
        "down_weight": s.tensor(hidden, inner) / inner**0.5,
        **vectors,
        "out_delta": s.delta(hidden, hidden),
        "up_delta": s.delta(inner, hidden),
        "down_delta": s.delta(hidden, inner),
    }
    return lambda **t: cls_tail(**t, eps=1e-2), lambda **t: cls_tail_ref(**t, eps=1e-2), tensors


def layers_case(s):
    _, ref, tensors = tail_case(s)
    return lambda **t: cls_tail_layers([t], eps=1e-2)[0], ref, tensors


CASES = {
    "delta_linear": linear_case,
    "delta_qkv": qkv_case,
    "add_layer_norm": norm_case,
    "bias_gelu": gelu_case,
    "cls_attention": attention_case,
    "cls_tail": tail_case,
    "cls_tail_layers": layers_case,
}


def strided(value, way):
    """The same values at other places in memory."""
    if isinstance(value, Delta):
        return Delta(value.layout, strided(value.values, way))
    if way == "gaps":
        wide = torch.full((*value.shape[:-1], 2 * value.shape[-1] + 1), 7.0, dtype=value.dtype)
        out = wide[..., 1::2]
    elif way == "padded rows":
        wide = torch.full((*value.shape[:-1], value.shape[-1] + 3), 7.0, dtype=value.dtype)
        out = wide[..., 1:-2]
    else:
        out = torch.empty(value.shape[::-1], dtype=value.dtype).permute(
            *reversed(range(value.dim()))
        )
    return out.copy_(value)


def copies(tensors):
    return {
        name: Delta(t.layout, t.values.clone()) if isinstance(t, Delta) else t.clone()
        for name, t in tensors.items()
    }


def same(a, b):
    """Equal to the bit, NaN included."""
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
