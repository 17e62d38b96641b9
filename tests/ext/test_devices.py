"""Errors of the ops that are alike for all: several devices, names of dtypes and of files."""

import pytest
import torch

from lets_ext import add_layer_norm, bias_gelu, cls_attention, cls_tail, delta_linear, delta_qkv
from tests.factories import make_delta, make_tensor

H, F = 4, 6


def linear():
    return {
        "base": make_tensor(1, 3, 3 * H),
        "x": make_tensor(1, 3, H),
        "delta": make_delta(2, 3 * H, H, 0.5),
        "bias": make_tensor(2, 3 * H),
    }


def tail():
    vectors = ("out_bias", "attn_norm_weight", "attn_norm_bias", "down_bias", "norm_weight")
    return {
        "ctx": make_tensor(2, 3, H),
        "residual": make_tensor(1, 3, H),
        "out_weight": make_tensor(H, H),
        "up_weight": make_tensor(F, H),
        "down_weight": make_tensor(H, F),
        "up_bias": make_tensor(2, F),
        **{name: make_tensor(2, H) for name in (*vectors, "norm_bias")},
        "up_delta": make_delta(2, F, H, 0.5),
    }


def attention():
    return {
        "q": make_tensor(2, 1, H),
        "x": make_tensor(1, 1, 5, H),
        "key": make_tensor(1, 1, 5, H),
        "value_weight": make_tensor(H, H),
        "key_delta": make_delta(2, H, H, 0.5),
        "key_mask": torch.ones(1, 5, dtype=torch.bool),
        "num_heads": 2,
    }


def norm():
    names = ("weight", "norm_bias", "bias")
    rows = {name: make_tensor(2, 3, H) for name in ("x", "residual")}
    return rows | {name: make_tensor(2, H) for name in names}


OPS = {
    delta_linear: linear,
    delta_qkv: linear,
    cls_tail: tail,
    cls_attention: attention,
    add_layer_norm: norm,
    bias_gelu: lambda: {"x": make_tensor(2, 3, F), "bias": make_tensor(2, F)},
}
CASES = [(op, name) for op, make in OPS.items() for name in make() if name != "num_heads"]


def moved(value, device):
    if isinstance(value, torch.Tensor):
        return value.to(device)
    return value._replace(layout=value.layout.to(device), values=value.values.to(device))


@pytest.mark.parametrize(("op", "name"), CASES, ids=lambda v: getattr(v, "__name__", v))
def test_a_tensor_elsewhere_is_refused(op, name):
    inputs = OPS[op]()
    op(**inputs)
    inputs[name] = moved(inputs[name], "meta")
    message = "all tensors must be on one device, got cpu, meta; move them"
    with pytest.raises(ValueError, match=message):
        op(**inputs)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_meta_tensors_alone_give_a_shape(op):
    inputs = OPS[op]()
    expected = op(**inputs)
    meta = {n: v if isinstance(v, int) else moved(v, "meta") for n, v in inputs.items()}
    assert op(**meta).shape == expected.shape


def test_messages_name_files_of_the_repository():
    with pytest.raises(RuntimeError) as caught:
        bias_gelu(torch.ones(3, 4), torch.ones(1, 4))
    assert " csrc/torch/" in str(caught.value)
