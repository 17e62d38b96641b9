"""TaskModel: starts as the frozen encoder, trains at its mask alone, and comes back from a task."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lets.dense import evaluate_densely
from lets.encoder import FrozenNeeds
from lets.errors import LetsError
from lets.heads import LayerwiseHead
from lets.policy import Policy
from lets.task import Task
from lets.task_model import TaskModel

from tests.models import make_encoder, make_task, make_texts
from tests.policies import policies

TEXTS = make_texts(4, longest=8)


def new_model(policy, density=0.2, seed=0):
    encoder = make_encoder()
    random = torch.Generator().manual_seed(seed)
    masks = {
        j: {
            name: torch.rand(getattr(encoder.layers[j], f"{name}_weight").shape, generator=random)
            < density
            for name in ("qkv", "out", "up", "down")
        }
        for j in policy.live_layers
    }
    torch.manual_seed(seed)
    return TaskModel(encoder, policy, masks, LayerwiseHead(3, 16, 2)).eval()


def test_starts_as_the_frozen_encoder():
    model = new_model(Policy("pff", "fff"))
    batch = model.encoder.tokenize(TEXTS, 12)
    hidden = model.encoder.forward(batch).hidden
    frozen = torch.stack([hidden[j][:, 0] for j in range(3)], dim=1)
    torch.testing.assert_close(model(batch), model.head(frozen), rtol=1e-5, atol=1e-5)
    assert all(p.abs().sum() == 0 for p in model.layers.parameters())


def test_parameters_are_the_task_s_alone():
    model = new_model(Policy("ppf", "pff"))
    names = dict(model.named_parameters())
    assert {name.split(".")[1] for name in names if name.startswith("layers.")} == {"1", "2"}
    assert {name.split(".", 2)[2] for name in names if name.startswith("layers.1.")} == {
        "qkv_values", "out_values", "up_values", "down_values",
        "query_bias_delta", "value_bias_delta", "out_bias_delta", "up_bias_delta",
        "down_bias_delta", "attn_norm_weight_delta", "attn_norm_bias_delta",
        "norm_weight_delta", "norm_bias_delta",
    }  # fmt: skip
    assert set(model.state_dict()) == set(names)
    assert names["layers.1.out_values"].shape == (model.task_layer(1).layouts["out"].nnz,)


@settings(max_examples=15)
@given(policies(3), st.sampled_from([0.0, 0.2]))
def test_gradients_are_those_of_the_dense_evaluation(policy, density):
    model = make_task(make_encoder(), policy, density=density).to_model(make_encoder())
    batch = model.encoder.tokenize(TEXTS, 12)
    parameters = list(model.parameters())
    found = torch.autograd.grad(model(batch).square().sum(), parameters)
    dense = evaluate_densely(model, batch).square().sum()
    for actual, expected in zip(found, torch.autograd.grad(dense, parameters)):
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)


def test_takes_frozen_activations():
    model = new_model(Policy("ppf", "fpf"))
    batch = model.encoder.tokenize(TEXTS, 12)
    expected = model(batch)
    torch.testing.assert_close(model(model.encoder.forward(batch, model.needs)), expected)
    everything = model.encoder.forward(batch, FrozenNeeds.everything(3))
    torch.testing.assert_close(model(everything), expected, rtol=1e-5, atol=1e-5)


def test_task_and_back():
    model = new_model(Policy("pff", "fpf"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    task = Task.from_model(
        model, "t", labels=("a", "b"), problem_type="classification", metric="f1", max_length=9
    )
    again = task.to_model(model.encoder)
    for (name, actual), expected in zip(again.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(actual, expected), name
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    batch = model.encoder.tokenize(TEXTS, 12)
    assert torch.equal(task.to_model(model.encoder)(batch), model(batch))


def test_wrong_masks_and_policies():
    encoder, head = make_encoder(), LayerwiseHead(3, 16, 2)
    with pytest.raises(LetsError, match="must have 3 letters"):
        TaskModel(encoder, Policy("pp", "ff"), {}, head)
    wrong = {2: {"qkv": torch.zeros(3, 4, dtype=torch.bool)}}
    with pytest.raises(LetsError, match=r"mask of qkv must be of one task and shape \[48, 16\]"):
        TaskModel(encoder, Policy("ppp", "ppf"), wrong, head)
    unknown = {2: {"query": torch.zeros(16, 16, dtype=torch.bool)}}
    with pytest.raises(LetsError, match="got query"):
        TaskModel(encoder, Policy("ppp", "ppf"), unknown, head)


def test_repr_of_a_task_is_one_short_line():
    task = make_task(make_encoder(), Policy("ppf", "pff"), name="mood")
    assert repr(task) == f"Task(mood, policy ppf/pff, {task.nnz} non-zeros, answers no, yes)"
    regression = make_task(make_encoder(), Policy("ppf", "pff"), labels=())
    assert repr(regression).endswith("answers a number)")
