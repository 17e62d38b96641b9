"""Analytic columns of the paper's tables 1 and 2, for nine tasks of 128 tokens on BERT-large."""

import pytest
from lets.baselines import system_costs
from lets.baselines.base import Sizes
from lets.cost import encoder_flops
from lets.errors import LetsError
from lets.policy import Policy
from lets.shape import EncoderShape

LARGE = EncoderShape.from_name("bert-large")


def metrics_of(name, accounting="paper", **sizes):
    sizes = Sizes(LARGE, 128, **sizes)
    return system_costs(name, sizes)[accounting].metrics(encoder_flops(LARGE, 128), LARGE, 9)


# As printed: speed-up, new FLOPs %, total FLOPs %, total parameters, new parameters %.
PAPER = {
    "full": (1.00, 100, 900, 9.00, 100),
    "adapters-64": (1.00, 100, 900, 1.18, 2.1),
    "diff-pruning": (1.00, 100, 900, 1.05, 0.5),
    "diff-pruning-structured": (1.00, 100, 900, 1.05, 0.5),
    "freeze-12": (1.80, 50.0, 500, 5.05, 45),
    "bitfit": (1.00, 100, 900, 1.01, 0.08),
}


@pytest.mark.parametrize("name", PAPER)
def test_table_1(name):
    speedup, new, total, total_params, new_params = PAPER[name]
    found = metrics_of(name)
    assert found.max_speedup == pytest.approx(speedup, abs=0.005)
    assert found.new_percent == pytest.approx(new, abs=0.05)
    assert found.total_percent == pytest.approx(total, abs=0.5)
    assert found.total_params_ratio == pytest.approx(total_params, abs=0.025)
    assert found.new_params_percent == pytest.approx(new_params, rel=0.12)


def test_the_computed_values_of_freeze_23_and_append_1():
    """METHOD section 12: the paper prints 138% and 6.75x for both."""
    freeze, append = metrics_of("freeze-23"), metrics_of("append-1")
    assert (freeze.total_percent, freeze.max_speedup) == pytest.approx((133.33, 6.75), abs=0.01)
    assert (append.total_percent, append.max_speedup) == pytest.approx((137.5, 6.545), abs=0.01)
    for found in (freeze, append):
        assert found.new_percent == pytest.approx(4.17, abs=0.01)
        assert found.total_params_ratio == pytest.approx(1.34, abs=0.005)
        assert found.new_params_percent == pytest.approx(3.7, abs=0.1)


@pytest.mark.parametrize("density", [0.001, 0.0025, 0.005])
def test_table_2_counts_the_mask_alone(density):
    """Biases and LayerNorms add 0.1% (METHOD section 12)."""
    found = metrics_of("lets-p", density=density)
    assert found.mask_percent == pytest.approx(100 * density, rel=0.1)
    assert found.new_params_percent - found.mask_percent == pytest.approx(0.1, abs=0.02)
    assert (found.max_speedup, found.total_percent) == (1.0, 900)


def test_four_groups_have_the_paper_s_overhead():
    """The searched G-4 policy is not given; that of whole groups bounds it: 18 of 24 layers."""
    found = metrics_of("lets-g4")
    assert found.overhead_percent == pytest.approx(75)
    assert found.new_params_percent < 1.4  # the paper's, whose head is larger


def test_engine_counts_what_runs():
    dense = encoder_flops(LARGE, 128)
    for name, extra in (
        ("adapters-64", 24 * 2 * 4 * 128 * 1024 * 64),
        ("lora", 2 * 128 * 24 * 2 * 8 * 2 * 1024),
        ("bitfit", 0),
    ):
        assert metrics_of(name, "engine").new_percent == pytest.approx(100 * (1 + extra / dense))
    assert metrics_of("lets-p", "engine").new_percent < 97  # the last layer ends in one row


def test_whole_matrices_cost_what_dense_layers_do():
    """LeTS-(c) on one chain: as full fine-tuning, with the paper's [CLS]-only last layer."""
    found = metrics_of("lets-c", policy=Policy.chain(24))
    dense, layer = encoder_flops(LARGE, 128), encoder_flops(LARGE, 128) / 24
    tail = 128 * (2 * 1024**2 + 4 * 1024 * 4096)
    assert found.new_percent == pytest.approx(100 * (1 - tail * 127 / 128 / dense))
    assert layer > tail
    assert found.new_params_percent > 90
    frozen = metrics_of("lets-c", policy=Policy("p" * 24, "p" * 23 + "f"), accounting="engine")
    sparse = metrics_of("lets-pc", policy=Policy("p" * 24, "p" * 23 + "f"), accounting="engine")
    assert frozen.overhead_percent < sparse.overhead_percent  # no QKV^p is read


def test_searched_systems_need_a_policy():
    with pytest.raises(LetsError, match="need a policy"):
        metrics_of("lets-pc")


@pytest.mark.parametrize(
    ("name", "total", "params"),
    [
        ("distilbert-4", 300, 4.27),
        ("distilbert-6", 450, 5.48),
        ("tinybert-4", 50.2, 1.19),  # 46.8% in the paper, which has 1.2 GFLOP
        ("tinybert-6", 450, 5.48),
        ("mobilebert-tiny", 123, 1.24),
    ],
)
def test_table_3_compressed_encoders(name, total, params):
    base = EncoderShape.from_name("bert-base")
    dense = encoder_flops(base, 128)
    found = system_costs(name, Sizes(base, 128))["paper"].metrics(dense, base, 9)
    assert found.total_percent == pytest.approx(total, abs=1)
    assert found.total_params_ratio == pytest.approx(params, abs=0.05)
    assert found.overhead_percent == 0


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("freeze-13", "at least 0 and at most 12"),
        ("append-0", "at least 1 and at most 12"),
        ("append-13", "at least 1 and at most 12"),
        ("adapters-0", "at least 1"),
    ],
)
def test_numbers_that_no_encoder_has(name, rule):
    """They would have negative costs, or other layers than are trained."""
    with pytest.raises(LetsError, match=f"{name} must have a number of {rule}"):
        system_costs(name, Sizes(EncoderShape.from_name("bert-base"), 128))


def test_the_cheap_end():
    """Nine answers for little more than a pass, and the stream for one query a layer more."""
    alone, stream, two = (metrics_of(name, "engine") for name in ("lets-d1", "lets-s1", "lets-d2"))
    assert 0.5 < alone.new_percent < 1.5
    queries = 100 * 23 * 2 * 1024**2 / encoder_flops(LARGE, 128)
    assert stream.new_percent - alone.new_percent == pytest.approx(queries)
    assert alone.total_percent < 115
    assert 3 < two.new_percent < 5
    taught = metrics_of("lets-d2-distill", "engine")
    assert taught == two
    searched = {"policy": Policy("p" * 24, "f" * 24)}
    assert metrics_of("lets-pc-stream", "engine", **searched) == stream
