"""The cost model against what torch's counter sees of runs: of ops, layers, and frozen passes."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import transformers
from lets.cost import layer_cost, op_cost
from lets.delta import matrix_shapes
from lets.encoder import Encoder, FrozenNeeds
from lets.flops import flop_formulas
from lets.heads import LayerwiseHead
from lets.layers import (
    FrozenLayer,
    cached_cls_layer,
    cls_layer,
    full_layer,
    project_qkv,
    project_query,
)
from lets.nnz import LayerNnz
from lets.policy import LayerCase
from lets.policy_cost import frozen_cost, head_cost, task_cost
from lets.shape import EncoderShape
from lets.task_model import TaskModel
from lets.tokens import TokenBatch
from lets.weights import LayerWeights
from torch.utils.flop_counter import FlopCounterMode

from lets_ext import Delta, DeltaLayout, cls_attention, delta_linear, delta_qkv
from tests.factories import make_delta, make_layout, make_tensor
from tests.policies import every_policy

B, S, H, A = 2, 5, 24, 4


def counted(function):
    with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
        function()
    return counter.get_total_flops()


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


SHAPE = EncoderShape("tiny", 3, H, A, 40, 100_000)


def make_own(tasks):
    """Deltas of all six matrices for `tasks` tasks, and how many non-zeros each has in all."""
    sizes = {"query": (H, H), "key": (H, H), "value": (H, H)}
    sizes |= {"out": (H, H), "up": (40, H), "down": (H, 40)}
    deltas = {
        name: make_delta(tasks, *size, seed=i) for i, (name, size) in enumerate(sizes.items())
    }
    nnz = LayerNnz(**{name: delta.layout.nnz for name, delta in deltas.items()})
    dense = [deltas[name].to_dense() for name in ("query", "key", "value")]
    mask = torch.cat(dense, dim=1) != 0
    layout = DeltaLayout.from_mask(mask)
    return replace(LAYER.own(), qkv=Delta(layout, make_tensor(layout.nnz)), **deltas), nnz


def make_layer():
    sizes = {"qkv": (3 * H, H), "out": (H, H), "up": (40, H), "down": (H, 40)}
    tensors = {f"{name}_weight": make_tensor(*size) for name, size in sizes.items()}
    tensors |= {f"{name}_bias": make_tensor(size[0]) for name, size in sizes.items()}
    for name in ("attn_norm", "norm"):
        tensors |= {f"{name}_weight": make_tensor(H), f"{name}_bias": make_tensor(H)}
    return FrozenLayer(LayerWeights(**tensors), A, 1e-12)


LAYER = make_layer()


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("case", list(LayerCase)[1:], ids=str)
@pytest.mark.parametrize("masked", [True, False])
def test_layer_of_every_case(case, masked):
    own, nnz = make_own(1)
    x = make_tensor(1, B, S, H)
    mask = torch.arange(S).expand(B, S) < S - 1 if masked else None
    qkv = project_qkv(x, LAYER)
    query, key, value = qkv.chunk(3, dim=-1)
    row = make_tensor(1, B, H)
    runs = {
        LayerCase.P_ALL: lambda: full_layer(qkv, x, mask, LAYER, own),
        LayerCase.F_ALL: lambda: full_layer(project_qkv(x, LAYER), x, mask, LAYER, own),
        LayerCase.P_CLS: lambda: cached_cls_layer(query[:, :, 0], key, value, x, mask, LAYER, own),
        LayerCase.F_CLS: lambda: cls_layer(x, mask, LAYER, own),
        LayerCase.S_CLS: lambda: cached_cls_layer(
            project_query(row, LAYER), key, value, x, mask, LAYER, own, row
        ),
    }
    assert counted(runs[case]) == layer_cost(SHAPE, case, S, nnz, batch=B).flops


@pytest.fixture(scope="module")
def encoder():
    config = transformers.BertConfig(
        vocab_size=11, hidden_size=H, num_hidden_layers=3, num_attention_heads=A,
        intermediate_size=40, max_position_embeddings=16,
    )  # fmt: skip
    return Encoder.from_model(transformers.BertModel(config), tokenizer=None)


EVERY_POLICY = every_policy(3)


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda p: f"{p.input}-{p.pool}")
def test_frozen_pass_of_every_policy(policy, encoder):
    assert frozen_flops(encoder, [policy]) == frozen_cost(SHAPE, S, [policy], batch=B).total.flops


def test_frozen_pass_of_sets(encoder):
    for first, second in itertools.islice(itertools.combinations(EVERY_POLICY, 2), 0, None, 31):
        expected = frozen_cost(SHAPE, S, [first, second], batch=B).total.flops
        assert frozen_flops(encoder, [first, second]) == expected


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda p: f"{p.input}-{p.pool}")
def test_whole_task_of_every_policy(policy, encoder):
    """Frozen pass, live layers and head in one run; and every parameter that the task trains."""
    shapes = matrix_shapes(encoder.layers[0])
    masks = {
        j: {name: make_layout(1, *size, seed=j) for name, size in shapes.items()}
        for j in policy.live_layers
    }
    model = TaskModel(encoder, policy, masks, LayerwiseHead(3, H, 4)).eval()
    nnz = {
        j: LayerNnz.from_crow({name: layout.crow_indices for name, layout in layer.items()})
        for j, layer in masks.items()
    }
    cost = task_cost(encoder.shape, policy, S, nnz, num_labels=4, batch=B).total
    frozen = frozen_cost(encoder.shape, S, [policy], batch=B).total
    with torch.no_grad():
        assert counted(lambda: model(token_batch())) == cost.flops + frozen.flops
    assert sum(parameter.numel() for parameter in model.parameters()) == cost.params


def token_batch():
    ids = torch.ones(B, S, dtype=torch.long)
    return TokenBatch(input_ids=ids, attention_mask=ids, token_type_ids=ids * 0)


def frozen_flops(encoder, policies):
    return counted(lambda: encoder.forward(token_batch(), FrozenNeeds.union(policies)))
