"""MPNet's relative positions in every place that attends: all equal the plain dense evaluation."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lets.dense import dense_forward, evaluate_densely, merged_layers
from lets.encoder import Encoder
from lets.plan.compile import RULES, naive_plan
from lets.plan.spec import TaskSpec
from lets.policy import Policy
from lets.run.engine import Engine
from lets.run.interpreter import interpret
from lets.search.supernet import SuperNet
from torch import nn

from tests.models import make_mpnet, make_mpnet_encoder, make_task, make_texts
from tests.policies import policies

LAYERS = 3
NO_SHRINK = (Phase.explicit, Phase.generate)  # an example takes tenths of a second
task_sets = st.lists(
    st.tuples(policies(LAYERS), st.sampled_from([0.0, 0.05, 0.4])), min_size=1, max_size=4
)  # fmt: skip
lengths = st.lists(st.integers(1, 20), min_size=1, max_size=3)


def make_tasks(chosen):
    encoder = make_mpnet_encoder(LAYERS)
    return {
        f"t{i}": make_task(encoder, policy, seed=i, density=density, name=f"t{i}")
        for i, (policy, density) in enumerate(chosen)
    }


def texts_of(lengths):
    return [make_texts(1, seed=i, shortest=n, longest=n)[0] for i, n in enumerate(lengths)]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [(21, 3), (4, 4)], ids=str)
def test_the_dense_twin_is_transformers(lengths):
    model, encoder = make_mpnet(LAYERS), make_mpnet_encoder(LAYERS)
    batch = encoder.tokenize(texts_of(lengths), 46)

    def rows(encoder):
        ones = [1.0] * LAYERS
        return dense_forward(encoder, encoder.layers, ones, ones, nn.Identity(), batch)

    hidden = model(batch.input_ids, batch.attention_mask, output_hidden_states=True).hidden_states
    expected = torch.stack([x[:, 0] for x in hidden[1:]], dim=1)
    torch.testing.assert_close(rows(encoder), expected, rtol=1e-5, atol=1e-5)
    forgetful = Encoder.from_model(model, None)
    forgetful.position_bias = None
    assert (rows(forgetful) - expected).abs().max() > 0.1


@settings(max_examples=25, phases=NO_SHRINK)
@given(task_sets, lengths)
@torch.no_grad()
def test_task_models_and_engines_equal_dense(chosen, lengths):
    encoder, tasks, texts = make_mpnet_encoder(LAYERS), make_tasks(chosen), texts_of(lengths)
    batch = encoder.tokenize(texts, 24)
    engines = [
        Engine(encoder, tasks.values(), mode=mode, batch_size=2)
        for mode in ("serial", "stacked", "streams")
    ]
    outputs = [engine(texts) for engine in engines]
    for name, task in tasks.items():
        model = task.to_model(encoder)
        expected = evaluate_densely(model, batch)
        close(model(batch), expected)
        for output in outputs:
            close(output[name].logits, expected)


@settings(max_examples=8, phases=NO_SHRINK)
@given(task_sets, lengths)
@torch.no_grad()
def test_every_rule_keeps_the_answers(chosen, lengths):
    encoder, tasks = make_mpnet_encoder(LAYERS), make_tasks(chosen)
    batch = encoder.tokenize(texts_of(lengths), 24)
    models = {name: task.to_model(encoder) for name, task in tasks.items()}
    expected = {name: evaluate_densely(model, batch) for name, model in models.items()}
    plan = naive_plan(encoder.shape, [TaskSpec.of(task) for task in tasks.values()])
    for rule in (lambda plan: plan, *RULES):
        plan = rule(plan)
        for name, logits in interpret(plan, encoder, models, batch).items():
            close(logits, expected[name])


@pytest.mark.parametrize("lengths", [(17, 5), (3, 3)], ids=str)
def test_supernet_and_its_gradients_equal_dense(lengths):
    encoder = make_mpnet_encoder(LAYERS)
    policy = Policy("pff", "fff")
    model = make_task(encoder, policy, density=0.3).to_model(encoder)
    masks = {j: model.task_layer(j).layouts for j in range(LAYERS)}
    net = SuperNet(encoder, masks, model.head).eval()
    values = dict(net.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in values:
                values[name].copy_(parameter)
    batch = encoder.tokenize(texts_of(lengths), 24)
    p_input, p_pool = torch.tensor([0.2, 0.7, 0.4]), torch.tensor([0.3, 0.6, 0.9])
    found = net(net.encoder.forward(batch, net.needs), p_input, p_pool)
    expected = dense_forward(encoder, merged_layers(model), p_input, p_pool, model.head, batch)
    close(found, expected)
    parameters = {n: p for n, p in model.layers.named_parameters() if n.endswith("_values")}
    wanted = torch.autograd.grad(expected.square().sum(), list(parameters.values()))
    actual = torch.autograd.grad(
        found.square().sum(), [net.layers.get_parameter(name) for name in parameters]
    )
    for a, b in zip(actual, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
