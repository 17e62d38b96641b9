"""Answers depend on the text and the task alone: not on who asks beside it, nor when."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from lets.encoder import Encoder
from lets.policy import Policy
from lets.run.engine import Engine

from tests.models import make_bert, make_encoder, make_task, make_texts

TEXTS = make_texts(9, seed=5, longest=20)
BOUNDS = {torch.float32: 1e-5, torch.float16: 2e-2, torch.bfloat16: 1e-1}
POLICIES = {"a": ("ppf", "pff"), "b": ("pff", "ppf"), "c": ("ppp", "fff")}


def make_engine(dtype=torch.float32, mode="auto"):
    encoder = make_encoder()
    tasks = [
        make_task(encoder, Policy(*policy), seed=i, name=name)
        for i, (name, policy) in enumerate(POLICIES.items())
    ]
    return Engine(Encoder(make_bert(), encoder.tokenizer, dtype=dtype), tasks, mode=mode)


def logits(engine, texts, tasks=None):
    return {name: out.logits for name, out in engine(texts, tasks).items()}


def assert_equal(actual, expected, bound):
    for name, found in actual.items():
        allowed = bound * (1 + expected[name].abs().max())
        assert (found.float() - expected[name].float()).abs().max() <= allowed, name


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("mode", ["serial", "stacked"])
def test_batch_and_tasks_beside_do_not_matter(dtype, mode):
    engine = make_engine(dtype, mode)
    whole = logits(engine, TEXTS)
    for first, last in ((0, 1), (2, 5), (8, 9)):
        part = logits(engine, TEXTS[first:last])
        assert_equal(part, {n: t[first:last] for n, t in whole.items()}, BOUNDS[dtype])
    assert_equal(logits(engine, TEXTS[::-1]), {n: t.flip(0) for n, t in whole.items()},
                 BOUNDS[dtype])  # fmt: skip
    for tasks in (["b"], ["a", "c"]):
        assert_equal(logits(engine, TEXTS, tasks), whole, BOUNDS[dtype])
    again = logits(engine, TEXTS)
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_callers_at_once_get_the_answers_of_one():
    engine = make_engine()
    calls = [TEXTS[i % 5 : i % 5 + 1 + i % 4] for i in range(24)]
    expected = [logits(engine, texts) for texts in calls]
    with ThreadPoolExecutor(6) as pool:
        for found, alone in zip(pool.map(lambda texts: logits(engine, texts), calls), expected):
            assert_equal(found, alone, 1e-5)
