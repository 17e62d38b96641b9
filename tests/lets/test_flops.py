"""The cost model against what torch's counter sees of runs of the compiled ops."""

import pytest
import torch
import torch.nn.functional as F
from lets.cost import op_cost
from lets.flops import flop_formulas
from lets.heads import LayerwiseHead
from lets.policy_cost import head_cost
from lets.shape import EncoderShape
from torch.utils.flop_counter import FlopCounterMode

from lets_ext import Delta, DeltaLayout, cls_attention, delta_linear, delta_qkv

B, S, H, A = 2, 5, 24, 4


def counted(function):
    with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
        function()
    return counter.get_total_flops()


def make_delta(tasks, out_features, in_features, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(tasks, out_features, in_features, generator=generator) < 0.1
    layout = DeltaLayout.from_mask(mask)
    return Delta(layout, torch.ones(layout.nnz))


@pytest.fixture(params=[torch.no_grad, torch.inference_mode], ids=["no_grad", "inference"])
def mode(request):
    with request.param():
        yield


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("tasks", [1, 3])
def test_delta_ops(tasks):
    delta = make_delta(tasks, 40, H)
    x, base = torch.ones(1, B * S, H), torch.ones(1, B * S, 40)
    sizes = {"tokens": B * S, "in_features": H, "out_features": 40}
    expected = op_cost("delta_linear", nnz=delta.layout.nnz, tasks=tasks, **sizes).flops
    assert counted(lambda: delta_linear(base, x, delta)) == expected > 0
    delta = make_delta(tasks, 3 * H, H)
    expected = op_cost("delta_qkv", tokens=B * S, hidden=H, nnz=delta.layout.nnz, tasks=tasks).flops
    assert counted(lambda: delta_qkv(torch.ones(1, B * S, 3 * H), x, delta)) == expected > 0


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("tasks", [1, 3])
def test_cls_attention(tasks, cached):
    key, value = make_delta(tasks, H, H), make_delta(tasks, H, H, seed=1)
    x = torch.ones(1 if cached else tasks, B, S, H)
    weight = torch.ones(H, H)
    products = {"key": x, "value": x} if cached else {"key_weight": weight, "value_weight": weight}
    expected = op_cost(
        "cls_attention",
        batch=B, seq_len=S, hidden=H, num_heads=A, cached=cached, tasks=tasks,
        key_nnz=key.layout.nnz, value_nnz=value.layout.nnz,
    )  # fmt: skip

    def call():
        query = torch.ones(tasks, B, H)
        cls_attention(query, x, num_heads=A, key_delta=key, value_delta=value, **products)

    assert counted(call) == expected.flops > 0


@pytest.mark.usefixtures("mode")
def test_attention_and_linear():
    query = torch.ones(B, A, S, H // A)
    expected = op_cost("attention", batch=B, seq_len=S, hidden=H).flops
    assert counted(lambda: F.scaled_dot_product_attention(query, query, query)) == expected
    expected = op_cost("linear", tokens=B * S, in_features=H, out_features=7).flops
    assert counted(lambda: F.linear(torch.ones(B, S, H), torch.ones(7, H))) == expected


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("name", ["bert-base", "minilm-l6"])
def test_head(name):
    shape = EncoderShape.from_name(name)
    head = LayerwiseHead(shape.num_layers, shape.hidden_size, 3).eval()
    pooled = torch.ones(B, shape.num_layers, shape.hidden_size)
    assert counted(lambda: head(pooled)) == head_cost(shape, 3, batch=B).flops
