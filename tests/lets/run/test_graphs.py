"""Sizes of captured graphs; the graphs themselves need a device."""

import pytest
import torch
from lets.policy import Policy
from lets.run.engine import Engine
from lets.run.graphs import bucket
from lets.tokens import TokenBatch

from tests.models import make_bert, make_encoder, make_task, make_texts


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1), (1, 16)), ((3, 16), (4, 16)), ((4, 17), (4, 32)), ((33, 47), (64, 40))],
)
def test_buckets(size, expected):
    ids = torch.ones(size, dtype=torch.int64)
    assert bucket(TokenBatch(ids, ids, ids), max_length=40) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("options", [{"graphs": True}, {"mode": "streams"}], ids=str)
def test_on_a_device(options):
    encoder = make_encoder()
    on_device = type(encoder)(make_bert(), encoder.tokenizer, device="cuda")
    tasks = [
        make_task(encoder, Policy(*word), seed=i, name=f"t{i}")
        for i, word in enumerate([("pff", "fpf"), ("ppf", "ppf"), ("ppp", "pff")])
    ]
    engine = Engine(on_device, tasks, **options)
    for count in (1, 3, 3):
        texts = make_texts(count)
        expected = Engine(encoder, tasks)(texts)
        for name, output in engine(texts).items():
            torch.testing.assert_close(output.logits, expected[name].logits, rtol=1e-4, atol=1e-4)
