"""Savings add up to the model that they are savings of, and what is left is what the plan costs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lets.cost import encoder_flops
from lets.nnz import LayerNnz, policy_nnz
from lets.policy import Policy
from lets.policy_cost import task_cost
from lets.report.savings import param_savings, savings
from lets.shape import EncoderShape

from tests.policies import policies

BASE = EncoderShape.from_name("bert-base")


@given(policies(12), st.sampled_from([1, 64, 128]), st.sampled_from([0.0005, 0.05]))
@settings(max_examples=60, deadline=None)
def test_parts_are_the_whole(policy, seq_len, density):
    nnz = policy_nnz(BASE, policy, density)
    ops, params = savings(BASE, policy, seq_len, nnz), param_savings(BASE, policy, nnz)
    left = ops.all_rows + ops.cls_rows
    assert ops.dense == ops.bypass + ops.sparse + ops.cls_only + ops.algebra + left
    assert params.dense == params.bypass + params.mask + params.non_zeros + params.vectors
    task = task_cost(BASE, policy, seq_len, nnz).total
    assert left + ops.head == task.flops
    assert params.non_zeros + params.vectors + params.head == task.params
    paper = task_cost(BASE, policy, seq_len, nnz, "paper").total
    assert ops.dense - ops.bypass - ops.sparse - ops.cls_only == paper.flops


def test_full_fine_tuning_saves_nothing():
    policy = Policy("p" + "f" * 11, "p" * 11 + "f")
    ops = savings(BASE, policy, 128, policy_nnz(BASE, policy, 1.0))
    assert (ops.bypass, ops.sparse) == (0, 0)
    assert ops.dense == encoder_flops(BASE, 128)


def test_figure_2b_by_hand():
    """Layers of 1.862 GFLOP: four bypassed; a p layer's Q, K, V are 6·L·d²; a [CLS] tail 1/L."""
    policy, length, d = Policy.preset("fig2b", 12), 128, 768
    none = dict.fromkeys(range(12), LayerNnz())
    percent = savings(BASE, policy, length, none).percent()
    layer = length * (24 * d * d + 4 * length * d)
    assert percent["bypass"] == pytest.approx(100 * 4 / 12)
    assert percent["sparse"] == pytest.approx(100 * 4 * 6 * length * d * d / (12 * layer))
    assert percent["cls_only"] == pytest.approx(100 * 4 * 18 * d * d * (length - 1) / (12 * layer))
