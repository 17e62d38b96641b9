import pytest
import torch
import torch.nn.functional as F

from lets_ext import cls_attention, delta_linear, delta_qkv
from tests.factories import make_delta, make_tensor

LENGTH = 128


def sdpa(q, keys, values, mask, num_heads):
    """Attention of one query per sequence. q [B, H], keys and values [B, S, H]"""
    batch, length, hidden = keys.shape
    heads = (num_heads, hidden // num_heads)
    return F.scaled_dot_product_attention(
        q.view(batch, 1, *heads).transpose(1, 2),
        keys.view(batch, length, *heads).transpose(1, 2),
        values.view(batch, length, *heads).transpose(1, 2),
        attn_mask=mask[:, None, None],
    )


def make_inputs(batch, hidden, density):
    q, x = make_tensor(1, batch, hidden) * 0.1, make_tensor(1, batch, LENGTH, hidden)
    common = {
        "num_heads": hidden // 64,
        "key_delta": make_delta(1, hidden, hidden, density, seed=1),
        "value_delta": make_delta(1, hidden, hidden, density, seed=2),
        "value_bias": make_tensor(1, hidden),
        "key_mask": torch.ones(batch, LENGTH, dtype=torch.bool),
    }
    return q, x, common


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("hidden", [768, 1024])
def bench_own_input(compare, hidden, batch):
    q, x, common = make_inputs(batch, hidden, 0.005)
    weights = {
        f"{name}_weight": make_tensor(hidden, hidden, seed=i) * 0.03
        for i, name in enumerate(("key", "value"))
    }

    def project(name):
        rows = x.view(1, -1, hidden)
        base = F.linear(rows, weights[f"{name}_weight"])
        return delta_linear(base, rows, common[f"{name}_delta"]).view(x.shape[1:])

    compare(
        "cls_attention",
        {"case": "own input", "hidden": hidden, "rows": batch * LENGTH, "density": 0.005},
        lambda: cls_attention(q, x, **weights, **common),
        {
            "K and V formed, sdpa": lambda: sdpa(
                q[0], project("key"), project("value"), common["key_mask"], common["num_heads"]
            )
        },
    )


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("hidden", [768, 1024])
def bench_frozen_input(compare, hidden, batch):
    q, x, common = make_inputs(batch, hidden, 0.005)
    qkv = make_tensor(1, batch, LENGTH, 3 * hidden, seed=4)
    _, key, value = qkv.split(hidden, -1)
    fused = make_delta(1, 3 * hidden, hidden, 0.005, seed=5)

    def formed():
        flat = (qkv.view(1, -1, 3 * hidden), x.view(1, -1, hidden))
        _, keys, values = delta_qkv(*flat, fused).view(qkv.shape[1:]).split(hidden, -1)
        return sdpa(q[0], keys, values, common["key_mask"], common["num_heads"])

    compare(
        "cls_attention",
        {"case": "frozen input", "hidden": hidden, "rows": batch * LENGTH, "density": 0.005},
        lambda: cls_attention(q, x, key=key, value=value, **common),
        {"delta_qkv, sdpa": formed},
    )
