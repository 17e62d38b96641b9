"""Products in 8-bit integers: exact in integers, near in floats, the same for every batch."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lets import products
from lets.dense import evaluate_densely
from lets.errors import LetsError
from lets.int8 import int8_available, int8_linear, quantize
from lets.pack import save_pack
from lets.policy import Policy
from lets.run.engine import Engine
from torch.nn import functional as F

from tests.factories import generator
from tests.models import make_encoder, make_task, make_texts

pytestmark = pytest.mark.skipif(not int8_available(), reason="torch was built without oneDNN")
sizes = st.integers(1, 70)


@given(st.integers(0, 20), sizes, sizes)
def test_integers_are_multiplied_exactly(rows, in_features, out_features):
    """Inputs that are whole numbers of steps lose nothing."""
    random = generator(rows)
    x = torch.randint(-127, 128, (rows, in_features), generator=random)
    w = torch.randint(-127, 128, (out_features, in_features), generator=random)
    x[:, 0], w[:, 0] = 127, -127
    weight = quantize(w / 64.0)
    assert weight.plain().equal(w / 64.0)
    assert weight.shape == w.shape
    bias = torch.randn(out_features, generator=random)
    expected = (x.double() / 8 @ w.double().T / 64 + bias).float()
    torch.testing.assert_close(int8_linear(x / 8.0, weight, bias), expected, rtol=1e-6, atol=1e-3)


def test_strides_change_nothing():
    w = torch.randn(24, 40, generator=generator(3))
    x = torch.randn(5, 40, generator=generator(4))
    for other in (w.T.contiguous().T, quantize(w).plain()):
        torch.testing.assert_close(int8_linear(x, quantize(other)), int8_linear(x, quantize(w)))


def test_rows_of_all_sizes_keep_their_digits():
    random = generator(1)
    x = torch.randn(2, 9, 64, generator=random) * torch.logspace(-6, 4, 9)[:, None]
    x[0, 3] = 0
    w = torch.randn(48, 64, generator=random)
    found, expected = products.linear(x, quantize(w)), F.linear(x, w)
    off = (found - expected).norm(dim=-1)
    assert (off <= 0.02 * expected.norm(dim=-1)).all()
    assert found[0, 3].eq(0).all()


def test_rows_do_not_depend_on_their_batch():
    x, weight = torch.randn(7, 32, generator=generator(2)), quantize(torch.randn(24, 32))
    assert int8_linear(x, weight)[2:3].equal(int8_linear(x[2:3], weight))


def test_memory_is_a_quarter():
    weight = torch.randn(768, 768)
    assert products.num_bytes(quantize(weight)) < 0.26 * products.num_bytes(weight)


@pytest.mark.parametrize("mode", ["serial", "stacked", "streams"])
def test_engine_answers_nearly_as_in_float32(mode):
    encoder = make_encoder()
    words = [("pff", "fff"), ("ppf", "fpf"), ("ppp", "pfp")]
    tasks = [
        make_task(encoder, Policy(*word), seed=i, name=f"t{i}") for i, word in enumerate(words)
    ]
    engine = Engine(encoder, tasks[:2], mode=mode, quantization="int8")
    engine.add_task(tasks[2])
    batch = encoder.tokenize(make_texts(4), 24)
    answers = engine.forward(batch)
    for task in tasks:
        expected = evaluate_densely(task.to_model(encoder), batch)
        assert not answers[task.name].equal(expected)
        off = (answers[task.name] - expected).abs() / (1 + expected.abs())
        assert off.max() < 0.25
    assert engine.memory()["encoder"] < Engine(encoder, tasks).memory()["encoder"]


def test_what_cannot_be_rounded():
    encoder = make_encoder()
    with pytest.raises(LetsError, match="quantization must be int8 or None, got 'int4'"):
        Engine(encoder, quantization="int4")
    with pytest.raises(LetsError, match=r"weights must be float32 on a CPU .* got bfloat16 on cpu"):
        quantize(torch.ones(2, 2, dtype=torch.bfloat16))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="of oneDNN on x86")
def test_processors_whose_sums_overflow_are_refused():
    """Without VNNI the sum of 64 ones times ones was 0.5."""
    code = "from lets.int8 import quantize; import torch; quantize(torch.ones(2, 2))"
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "on a CPU with VNNI" in run.stderr


def test_rounded_encoders_make_nothing_that_lasts(tmp_path):
    encoder = make_encoder()
    task = make_task(encoder, Policy("pff", "fff"))
    rounded = Engine(encoder, [task], quantization="int8").encoder
    for make in (rounded.plain, lambda: save_pack(tmp_path / "pack", task, rounded)):
        with pytest.raises(LetsError, match="must be those of its file, got int8"):
            make()
    again = [Engine(e, [task], quantization="int8") for e in (rounded, encoder.packed())]
    batch = encoder.tokenize(make_texts(4), 24)
    for engine in again:
        found = engine.forward(batch)[task.name]
        expected = Engine(encoder, [task], quantization="int8").forward(batch)[task.name]
        torch.testing.assert_close(found, expected)
