"""Every baseline that runs here answers as eager torch does, with as many models as asked."""

import copy
import importlib.util

import pytest
import torch
from lets.bench.baselines import BASELINES, Dense
from lets.bench.baselines.base import as_inputs
from lets.bench.baselines.cls_last import with_cls_last
from lets.bench.check import Difference
from lets.bench.problem import dense_classifier, random_batch

# Compilation takes half a minute.
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n == "compile" else n for n in BASELINES]


@pytest.fixture(scope="module")
def plain(tiny_folder):
    return dense_classifier(tiny_folder, seed=1)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strict", [False, True])
def test_answers_equal_eager_torch(name, strict, plain, tiny_encoder, graphs):
    if name.startswith("ort") and strict:
        pytest.skip("the same exporter and runtime, which take seconds")
    model = with_cls_last(plain) if strict else plain
    dense = Dense(model, plain, 1, graphs)
    kind = BASELINES[name]
    reason = kind.unavailable(dense)
    if reason is not None:
        pytest.skip(reason)
    baseline = kind(dense, 3)
    for batch, length, passes in ((1, 9, 3), (2, 5, 2)):
        inputs = as_inputs(random_batch(tiny_encoder, batch, length))
        logits = baseline.prepare(passes, inputs)()
        assert len(logits) == passes
        found = Difference.of(logits, [baseline.reference(inputs)] * passes)
        assert found.within(baseline.tolerance or 1e-4)
    baseline.close()


def test_models_have_memory_of_their_own(plain, tmp_path):
    first, second = Dense(plain, plain, 1, tmp_path).copies(2)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(ours.data_ptr() != theirs.data_ptr() for ours, theirs in pairs)


def test_own_dense_models_share_no_weights_where_none_is_packed(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("lets.products.can_pack", lambda *_: False)
    baseline = BASELINES["own-dense"](Dense(plain, plain, 1, tmp_path), 2)
    first, second = ([*vars(e.layers[0]).values()] for e in baseline.encoders)
    assert not {t.data_ptr() for t in first} & {t.data_ptr() for t in second}


def test_reasons(plain, tmp_path):
    half = copy.deepcopy(plain).to(torch.bfloat16)
    dense = Dense(half, half, 1, tmp_path)
    assert "needs a CUDA device" in BASELINES["cuda-streams"].unavailable(dense)
    if importlib.util.find_spec("onnxruntime"):
        assert "beside fp32 alone" in BASELINES["ort-int8"].unavailable(dense)
    strict = with_cls_last(plain)
    assert "no stricter form" in BASELINES["stacked"].unavailable(Dense(strict, plain, 1, tmp_path))
