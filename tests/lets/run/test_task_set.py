"""Sets of tasks: what they keep, what they give back, what is released."""

import gc
import threading
import weakref

import pytest
import torch
from lets import products
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.policy import Policy
from lets.run.engine import Engine
from lets.run.stacks import Stacks

from lets_ext import Delta
from tests.models import make_bert, make_encoder, make_task, make_texts

WORDS = [("pff", "fff"), ("pff", "ppf"), ("ppf", "fpf"), ("ppp", "ppp"), ("pff", "fff")]
VARIANTS = {"c": ("pfp", "fff"), "p": ("pff", "fff")}
TEXTS = make_texts(3, seed=1)


def make_tasks(seed=0):
    encoder = make_encoder()
    return {
        f"t{i}": make_task(encoder, Policy(*word), seed=seed + i, density=0.1 * i, name=f"t{i}",
                           labels=("a", "b", "c")[: 2 + i % 2])
        for i, word in enumerate(WORDS)
    }  # fmt: skip


def assert_equal_tasks(found, expected):
    assert (found.name, found.policy, found.labels) == (
        expected.name, expected.policy, expected.labels,
    )  # fmt: skip
    assert found.deltas.keys() == expected.deltas.keys()
    assert found.variant == expected.variant
    for j, matrices in (expected.dense or {}).items():
        for matrix, weight in matrices.items():
            assert torch.equal(found.dense[j][matrix], weight)
    for j, layer in expected.deltas.items():
        for matrix, delta in layer.items():
            again = found.deltas[j][matrix]
            assert torch.equal(again.values, delta.values)
            for name in ("crow_indices", "col_indices", "row_indices", "permutation"):
                assert torch.equal(getattr(again.layout, name), getattr(delta.layout, name))
        for name, vector in expected.vectors[j].items():
            assert torch.equal(found.vectors[j][name], vector)
    for name, tensor in expected.head.state_dict().items():
        assert torch.equal(found.head.state_dict()[name], tensor)


def make_variants():
    return {
        variant: make_task(make_encoder(), Policy(*word), name=variant, variant=variant)
        for variant, word in VARIANTS.items()
    }


def test_tasks_come_back_as_they_were():
    tasks = make_tasks() | make_variants()
    engine = Engine(make_encoder(), tasks.values())
    for name, task in tasks.items():
        assert_equal_tasks(engine.tasks[name], task)
    engine.add_task(make_tasks(9)["t0"], name="more")
    for name in ("t3", "t0", "c", "p"):
        assert_equal_tasks(engine.remove_task(name), tasks[name])
    with pytest.raises(KeyError):
        _ = engine.tasks["t1"].deltas[0 if WORDS[1][0][0] == "f" else 7]


def test_a_user_s_task_stays_as_it_is():
    encoder, task = make_encoder(), make_tasks()["t1"]
    low = Encoder(make_bert(), encoder.tokenizer, dtype=torch.bfloat16)
    engine = Engine(low, [task])
    assert next(task.head.parameters()).dtype == torch.float32
    assert next(engine.tasks["t1"].head.parameters()).dtype == torch.bfloat16
    assert_equal_tasks(Engine(encoder, [task]).remove_task("t1"), task)


def test_weights_are_kept_once():
    """Eight bytes a non-zero, however often the set has changed."""
    encoder, tasks = make_encoder(), make_tasks()
    engine = Engine(encoder, tasks.values())
    engine.remove_task("t4")
    engine.add_task(tasks["t4"])

    def size(stacks):
        unique = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in stacks.tensors()}
        return sum(storage.nbytes() for storage in unique.values())

    stacks = engine._set.stacks
    assert size(stacks) == size(Stacks(encoder, tasks))
    sparse = sum(
        delta.nbytes
        for own in stacks._layers.values()
        for part in vars(own).values()
        if isinstance(part, Delta)
        for delta in (part.values, part.layout.col_indices)
    )
    assert sparse == 8 * sum(task.nnz for task in tasks.values())


def test_memory_of_a_removed_task_is_released():
    engine = Engine(make_encoder(), make_tasks().values())
    outputs = engine(TEXTS)
    engine(TEXTS, tasks=["t0", "t2"])
    before = weakref.ref(engine._set)
    held = [weakref.ref(t.untyped_storage()) for t in engine._set.stacks.tensors()]
    removed = engine.remove_task("t2")
    gc.collect()
    assert before() is None
    del removed
    assert len(outputs) == 5  # outputs do not keep a set alive
    gc.collect()
    assert not [ref for ref in held if ref() is not None]


def test_refused_tasks_change_nothing():
    tasks = make_tasks()
    engine = Engine(make_encoder(), list(tasks.values())[:2])
    with pytest.raises(LetsError, match="given twice"):
        engine.add_tasks([tasks["t2"], tasks["t2"]])
    with pytest.raises(LetsError, match="task t1 is there already"):
        engine.add_tasks([tasks["t3"], tasks["t1"]])
    assert list(engine.tasks) == ["t0", "t1"]


def test_replacing_a_task_keeps_its_place():
    engine = Engine(make_encoder(), make_tasks().values())
    other = make_tasks(50)["t2"]
    assert engine.add_task(other, name="t1", replace=True) == "t1"
    assert list(engine.tasks) == [f"t{i}" for i in range(5)]
    expected = Engine(make_encoder(), [other])(TEXTS)["t2"].logits
    torch.testing.assert_close(engine(TEXTS)["t1"].logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["serial", "stacked"])
def test_answers_under_changes_are_those_of_one_set(mode):
    """Callers against a thread that replaces two tasks at once, adds and removes others."""
    encoder = make_encoder()
    versions = [make_tasks(), make_tasks(50)]
    engine = Engine(encoder, versions[0].values(), mode=mode)
    tokens = encoder.tokenize(TEXTS, 24)
    expected = [Engine(encoder, v.values(), mode=mode).forward(tokens) for v in versions]
    done, wrong, seen = threading.Event(), [], set()

    def change():
        for i in range(6):
            engine._add([(task, None) for task in versions[(i + 1) % 2].values()], True)
            engine.add_task(versions[0]["t0"], name="extra")
            engine.remove_task("extra")
        done.set()

    def call():
        while not done.is_set():
            found = engine.forward(tokens)
            match = [
                all(torch.allclose(found[n], logits, atol=1e-5) for n, logits in each.items())
                for each in expected
            ]
            if match.count(True) != 1 or set(found) - {"extra"} != set(expected[0]):
                wrong.append(sorted(found))
            seen.add(match.index(True) if any(match) else None)

    threads = [threading.Thread(target=target) for target in (call, call, change)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert seen == {0, 1}


@pytest.mark.skipif(not products.can_pack(torch.float32), reason="torch was built without oneDNN")
def test_projections_that_nobody_reads_whole_are_not_held_packed():
    engine = Engine(make_encoder())
    packed = weakref.ref(engine.encoder.layer(2).weights.qkv_weight)
    assert products.is_packed(packed())
    engine.add_task(make_tasks()["t1"])  # reads parts of them
    gc.collect()
    assert packed() is None
    assert not products.is_packed(engine.encoder.layer(2).weights.qkv_weight)


@pytest.mark.skipif(not products.can_pack(torch.float32), reason="torch was built without oneDNN")
def test_packed_weights_take_the_place_of_plain_ones():
    """Beside packed projections there are plain ones only where somebody reads parts of them."""
    # Of layer 1, t1 reads the [CLS] row of the frozen encoder, and all rows of its own.
    encoder, tasks = make_encoder(), make_tasks()
    engine = Engine(encoder, [tasks["t1"]])

    def layers():
        return [engine._set.encoder.layer(j) for j in range(3)]

    assert all(products.is_packed(layer.weights.up_weight) for layer in layers())
    assert not any(products.is_packed(layer.qkv_weight) for layer in encoder.layers)
    beside = [layer.plain_qkv_weight is not None for layer in layers()]
    instead = [not products.is_packed(layer.weights.qkv_weight) for layer in layers()]
    assert (beside, instead) == ([False, True, False], [False, False, True])
    running = engine._set
    kept = weakref.ref(layers()[1].plain_qkv_weight)
    engine.add_task(tasks["t4"])
    assert layers()[1].plain_qkv_weight is kept()
    engine.remove_task("t1")
    assert engine(TEXTS)["t4"].logits.isfinite().all()
    assert layers()[1].plain_qkv_weight is None
    del running
    gc.collect()
    assert kept() is None
    held = engine.memory()
    assert held["tasks"] == sum(t.numel() * t.element_size() for t in engine._set.stacks.tensors())
    plain = encoder.num_bytes() - 4 * sum(layer.qkv_weight.numel() for layer in encoder.layers[2:])
    assert held["encoder"] >= plain
