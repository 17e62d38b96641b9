"""The engine against plain dense evaluations of the same tasks, and how it is used."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lets.dense import evaluate_densely
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.flops import flop_formulas
from lets.pack import save_pack
from lets.policy import LayerCase, Policy
from lets.policy_cost import frozen_cost, task_cost
from lets.run.engine import Engine
from torch.utils.flop_counter import FlopCounterMode

from lets_ext import Delta
from tests.models import make_bert, make_encoder, make_task, make_texts, save_bert
from tests.policies import policies

TEXTS = make_texts(7, seed=3, longest=20)


def dense_logits(encoder, task, texts, max_length=None):
    model = task.to_model(encoder)
    with torch.no_grad():
        return evaluate_densely(model, encoder.tokenize(texts, max_length or task.max_length))


def assert_same(output, expected):
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-4)


# --- gold: transformers' own layers, put together by hand ---

B, P, PC, F, FC, SC = (
    LayerCase.BYPASS,
    LayerCase.P_ALL,
    LayerCase.P_CLS,
    LayerCase.F_ALL,
    LayerCase.F_CLS,
    LayerCase.S_CLS,
)
GOLD = {
    ("pp", "pp"): (B, B),
    ("pp", "pf"): (B, PC),
    ("pp", "fp"): (PC, B),
    ("pp", "ff"): (PC, PC),
    ("pf", "pp"): (B, B),
    ("pf", "pf"): (P, FC),
    ("pf", "fp"): (PC, B),
    ("pf", "ff"): (P, FC),
    # what two layers cannot show: f-all, and live layers below and above it
    ("pff", "ppf"): (P, F, FC),
    ("pff", "fff"): (P, F, FC),
    ("pff", "fpp"): (PC, B, B),
    ("ppf", "fpf"): (PC, P, FC),
    ("pfp", "fff"): (P, FC, PC),
    # the [CLS] stream, on every kind of layer below it
    ("ps", "fp"): (PC, B),
    ("pss", "ppf"): (PC, SC, SC),
    ("pfs", "fff"): (P, FC, SC),
    ("psp", "fff"): (PC, SC, PC),
    ("pffs", "pppf"): (P, F, FC, SC),
}  # fmt: skip


def merged_bert(model, encoder, task):
    """A transformers model with the task's changes added to its own weights."""
    merged = copy.deepcopy(model)
    hidden = encoder.shape.hidden_size
    for j, deltas in task.deltas.items():
        layer = merged.encoder.layer[j]
        attention = layer.attention.self
        dense = {
            name: Delta(delta.layout, delta.values).to_dense()[0] for name, delta in deltas.items()
        }
        qkv = dense["qkv"].split(hidden)
        changes = dict(zip((attention.query, attention.key, attention.value), qkv))
        changes |= {
            layer.attention.output.dense: dense["out"],
            layer.intermediate.dense: dense["up"],
            layer.output.dense: dense["down"],
        }
        for module, change in changes.items():
            module.weight += change
        vectors = task.vectors[j]
        attention.query.bias += vectors["query_bias_delta"]
        attention.value.bias += vectors["value_bias_delta"]
        for name, module in (
            ("out", layer.attention.output.dense),
            ("up", layer.intermediate.dense),
            ("down", layer.output.dense),
            ("attn_norm", layer.attention.output.LayerNorm),
            ("norm", layer.output.LayerNorm),
        ):
            module.bias += vectors[f"{name}_bias_delta"]
            if "norm" in name:
                module.weight += vectors[f"{name}_weight_delta"]
    return merged


@pytest.mark.parametrize("selectors", GOLD, ids="-".join)
@torch.no_grad()
def test_gold(selectors):
    policy = Policy(*selectors)
    assert policy.cases == GOLD[selectors]
    layers = policy.num_layers
    model, encoder = make_bert(layers), make_encoder(layers)
    task = make_task(encoder, policy, seed=5)
    batch = encoder.tokenize(TEXTS, task.max_length)
    own = merged_bert(model, encoder, task).encoder.layer
    far = torch.finfo(torch.float32).min
    mask = (1.0 - batch.attention_mask.float())[:, None, None] * far
    x_p = x_f = model.embeddings(batch.input_ids, batch.token_type_ids)
    pooled = []
    for j in range(layers):
        if policy.input[j] == "s":  # one more row, which attends to all others and not to itself
            rows = torch.cat([x_f[:, :1], x_p], dim=1)
            x_f = own[j](rows, torch.cat([torch.full_like(mask[..., :1], far), mask], dim=-1))[
                :, :1
            ]
        else:
            x_f = own[j](x_p if policy.input[j] == "p" else x_f, mask)
        x_p = model.encoder.layer[j](x_p, mask)
        pooled.append((x_p if policy.pool[j] == "p" else x_f)[:, 0])
    expected = task.head(torch.stack(pooled, dim=1))
    assert expected.std(0).min() > 0.01  # the texts do make a difference
    torch.testing.assert_close(Engine(encoder, [task])(TEXTS)["task"].logits, expected,
                               rtol=1e-4, atol=2e-5)  # fmt: skip
    torch.testing.assert_close(evaluate_densely(task.to_model(encoder), batch), expected,
                               rtol=1e-4, atol=2e-5)  # fmt: skip


# --- properties ---

LAYERS = 4
tasks = st.lists(
    st.tuples(policies(LAYERS), st.sampled_from([0.0, 0.02, 0.3, 1.0]), st.integers(4, 24)),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(max_examples=40)
@given(
    tasks,
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 20),
    st.one_of(st.none(), st.integers(3, 10)),
)
def test_equals_dense_evaluation(chosen, count, batch_size, longest, max_length):
    encoder = make_encoder(LAYERS)
    made = [
        make_task(encoder, policy, seed=i, density=density, name=f"t{i}", max_length=length,
                  labels=("a", "b", "c")[: i + 1] if i else ())
        for i, (policy, density, length) in enumerate(chosen)
    ]  # fmt: skip
    texts = make_texts(count, seed=longest, longest=longest)
    outputs = Engine(encoder, made, batch_size=batch_size)(texts, max_length=max_length)
    assert list(outputs) == [task.name for task in made]
    for task in made:
        limit = min(task.max_length, max_length or task.max_length)
        assert_same(outputs[task.name], dense_logits(encoder, task, texts, limit))


def test_many_tasks_of_mixed_policies_and_dead_chains():
    encoder = make_encoder()
    chosen = [("pff", "fpp"), ("pff", "ppf"), ("ppf", "ppf"), ("ppp", "ppp"), ("pfp", "fff")]
    made = [
        make_task(encoder, Policy(*chosen[i % 5]), seed=i, name=f"t{i}", density=0.05 * i)
        for i in range(9)
    ]
    outputs = Engine(encoder, made, batch_size=3)(TEXTS)
    for task in made:
        assert_same(outputs[task.name], dense_logits(encoder, task, TEXTS))


def test_pairs_and_absent_partners():
    encoder = make_encoder()
    task = make_task(encoder, Policy("pff", "pff"), is_pair=True)
    pairs = list(zip(TEXTS, reversed(TEXTS)))
    assert_same(Engine(encoder, [task])(pairs)["task"], dense_logits(encoder, task, pairs))
    assert_same(Engine(encoder, [task])([list(p) for p in pairs])["task"],
                dense_logits(encoder, task, pairs))  # fmt: skip


def test_float64_engine_is_exact():
    encoder = make_encoder()
    exact = type(encoder)(make_bert().double(), encoder.tokenizer, dtype=torch.float64)
    task = make_task(exact, Policy("pff", "ffp"))
    expected = dense_logits(exact, task, TEXTS)
    assert expected.dtype == torch.float64
    logits = Engine(exact, [task])(TEXTS)["task"].logits
    torch.testing.assert_close(logits, expected.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["serial", "stacked", "streams"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_engine(dtype, mode):
    """At most twice as far from float32 as the plain evaluation in the same dtype."""
    encoder = make_encoder()
    low = Encoder(make_bert(), encoder.tokenizer, dtype=dtype)
    policies = [("ppf", "fpf"), ("pff", "fpf"), ("ppf", "fff"), ("ppp", "pff")]
    made = [make_task(encoder, Policy(*p), seed=i, name=f"t{i}") for i, p in enumerate(policies)]
    exact = {task.name: dense_logits(encoder, task, TEXTS) for task in made}
    theirs = max(
        (dense_logits(low, task, TEXTS).float() - exact[task.name]).abs().max() for task in made
    )
    found = Engine(low, made, mode=mode)(TEXTS)
    ours = max((found[name].logits - exact[name]).abs().max() for name in exact)
    assert ours <= 2 * theirs + 1e-3


def test_flops_are_the_cost_model_s():
    encoder = make_encoder()
    made = [
        make_task(encoder, Policy(*word), seed=i, name=f"t{i}")
        for i, word in enumerate([("pff", "fpf"), ("ppf", "fpp"), ("ppp", "ffp"), ("pff", "ppf")])
    ]
    texts, length = ["a red house", "one old tree"], 5  # [CLS] and [SEP] are tokens too
    engine = Engine(encoder, made, mode="serial")
    with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
        engine(texts)
    shape, sizes = encoder.shape, {"batch": len(texts)}
    expected = frozen_cost(shape, length, [task.policy for task in made], **sizes).total.flops
    for task in made:
        expected += task_cost(shape, task.policy, length, task.layer_nnz(), **sizes).total.flops
    assert counter.get_total_flops() == expected


# --- use ---


@pytest.fixture
def engine():
    encoder = make_encoder()
    made = [
        make_task(encoder, Policy("ppf", "pff"), seed=1, name="sentiment"),
        make_task(encoder, Policy("pff", "fff"), seed=2, name="stars", labels=()),
        make_task(encoder, Policy("ppp", "fpp"), seed=3, name="same", is_pair=True),
    ]
    return Engine(encoder, made)


def test_answers(engine):
    outputs = engine(TEXTS)
    sentiment, stars = outputs["sentiment"], outputs["stars"]
    probabilities = sentiment.logits.softmax(-1)
    assert torch.equal(sentiment.probabilities, probabilities)
    assert torch.equal(sentiment.scores, probabilities.max(-1).values)
    assert sentiment.labels == [("no", "yes")[i] for i in probabilities.argmax(-1)]
    assert stars.labels == stars.logits[:, 0].tolist() == stars.scores.tolist()
    assert len(stars) == len(TEXTS)


def test_an_error_of_one_task_leaves_the_others(engine):
    outputs = engine(TEXTS)
    same = outputs["same"]
    assert same.error == "same: the task takes pairs of texts, got single texts"
    with pytest.raises(LetsError, match="same: the task takes pairs"):
        _ = same.labels
    assert "takes pairs" in repr(same)
    assert outputs["sentiment"].error is None
    assert_same(outputs["stars"], engine(TEXTS, tasks=["stars"])["stars"].logits)


def test_texts_per_task(engine):
    inputs = {
        "same": [("a house", "a tree")],
        "sentiment": TEXTS[:3],
        "stars": ["fine", " "],
    }
    outputs = engine(inputs)
    assert outputs["stars"].error == "stars: texts[1] must not be empty"
    assert [len(outputs[name]) for name in ("same", "sentiment")] == [1, 3]
    assert_same(outputs["sentiment"], engine(TEXTS[:3])["sentiment"].logits)
    assert list(engine(inputs, tasks=["same"])) == ["same"]
    assert (
        engine({"stars": []})["stars"].error == "stars: texts must hold at least one text, got none"
    )


def test_repeated_texts_are_computed_once(engine):
    with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as once:
        engine(["a tree"], tasks=["stars"])
    with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as often:
        output = engine(["a tree"] * 40, tasks=["stars"])["stars"]
    assert often.get_total_flops() == once.get_total_flops()
    assert len(set(output.labels)) == 1
    assert len(output) == 40


def test_tasks_come_and_go(engine, tmp_path):
    encoder = engine.encoder
    before = engine(TEXTS)["sentiment"].logits
    task = make_task(encoder, Policy("pff", "ffp"), seed=4, name="late")
    pack = save_pack(tmp_path / "late", task, encoder)
    assert engine.add_task(pack) == "late"
    assert engine.add_task(task, name="again") == "again"
    outputs = engine(TEXTS)
    assert_same(outputs["late"], dense_logits(encoder, task, TEXTS))
    assert torch.equal(outputs["late"].logits, outputs["again"].logits)
    with pytest.raises(LetsError, match="task late is there already; remove it first"):
        engine.add_task(pack)
    assert engine.remove_task("late").name == "late"
    assert list(engine.tasks) == ["sentiment", "stars", "same", "again"]
    with pytest.raises(LetsError, match="no task 'late'; loaded: again, same, sentiment, stars"):
        engine.remove_task("late")
    with pytest.raises(LetsError, match="no task 'late'"):
        engine(TEXTS, tasks=["late"])
    assert torch.equal(engine(TEXTS)["sentiment"].logits, before)


def test_from_pretrained(tmp_path):
    folder = save_bert(tmp_path)
    encoder = make_encoder()
    task = make_task(encoder, Policy("ppf", "pff"))
    pack = save_pack(tmp_path / "pack", task, encoder)
    engine = Engine.from_pretrained(folder, [pack])
    assert_same(engine(TEXTS)["task"], dense_logits(encoder, task, TEXTS))
    with pytest.raises(LetsError, match="packs must be a list"):
        Engine.from_pretrained(folder, str(pack))
    other = make_encoder(seed=1)
    with pytest.raises(LetsError, match="load the encoder that it was trained on"):
        Engine.from_pretrained(other, [pack])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "at least one text"),
        ("one text", "must be a list of texts"),
        (["fine", ""], r"texts\[1\] must not be empty"),
        (["fine", None], r"texts\[1\] must be a text or a pair"),
        ([3], r"texts\[0\] must be a text or a pair of texts, got int"),
        ([("a", 3)], r"texts\[0\] must be a text or a pair"),
        (3, "must be a list of texts or of pairs, got int"),
        ({3: ["a"]}, "tasks must be a list of names, got 3 in it|no task 3"),
        (["fine", ("a", "b")], r"all texts or all pairs, but \[1\] differs"),
        (["bad \ud800"], r"texts\[0\] must be valid Unicode"),
        ({"nobody": ["a"]}, "no task 'nobody'"),
    ],
)
def test_wrong_inputs(engine, texts, message):
    with pytest.raises(LetsError, match=message):
        engine(texts)


def test_wrong_settings(engine):
    for size in (0, 1.5, True, "8"):
        with pytest.raises(LetsError, match="batch_size must be a positive integer, got"):
            engine(TEXTS, batch_size=size)
    for length in (1000, 2, 5.5, True):
        with pytest.raises(LetsError, match="max_length must be an integer between 3 and 48, got"):
            engine(TEXTS, max_length=length)
    for names in ("stars", 3, ["stars", 3], [["stars"]]):
        with pytest.raises(LetsError, match="tasks must be a list of names, got"):
            engine(TEXTS, tasks=names)
        with pytest.raises(LetsError, match="tasks must be a list of names, got"):
            engine.forward(engine.encoder.tokenize(TEXTS, 8), names)
    with pytest.raises(LetsError, match="tokens must be a TokenBatch, got list"):
        engine.forward(TEXTS)
    with pytest.raises(LetsError, match="task must be a Task, or the folder or hub id of a pack"):
        engine.add_task(3)
    with pytest.raises(LetsError, match="packs must be a list, got int"):
        Engine.from_pretrained(engine.encoder, 3)
    with pytest.raises(LetsError, match="at least one task"):
        Engine(engine.encoder)(TEXTS)


def test_a_task_that_overflows_reports_it(engine):
    task = make_task(engine.encoder, Policy("ppf", "pff"), name="broken")
    with torch.no_grad():
        task.head.classifier.bias.fill_(torch.inf)
    engine.add_task(task)
    outputs = engine(TEXTS)
    assert "logits must be finite" in outputs["broken"].error
    assert outputs["sentiment"].error is None
