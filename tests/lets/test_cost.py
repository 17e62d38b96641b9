import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from lets.cost import (
    OPS,
    Cost,
    check_accounting,
    dense_layer_cost,
    encoder_flops,
    layer_cost,
    layer_ops,
    layer_params,
    layer_prices,
    op_cost,
)
from lets.errors import LetsError
from lets.nnz import LayerNnz, kept_weights, layer_nnz, policy_nnz, spread
from lets.policy import LayerCase, Policy
from lets.policy_cost import frozen_cost, head_cost, task_cost
from lets.shape import EncoderShape
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.policies import policies

BASE = EncoderShape.from_name("bert-base")
TINY = EncoderShape("tiny", 3, 24, 4, 40, 100_000)
LIVE = tuple(LayerCase)[1:]
ACCOUNTINGS = ("paper", "engine")


def counted(function):
    # The counter knows no formula for the fused attention of the CPU; MATH is plain products.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        function()
    return counter.get_total_flops()


def attention(x, hidden, heads):
    query, key, value = (
        t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in x.split(hidden, dim=-1)
    )
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def tail(x, hidden, inner):
    x = F.linear(x, torch.zeros(hidden, hidden))
    return F.linear(F.linear(x, torch.zeros(inner, hidden)), torch.zeros(hidden, inner))


@pytest.mark.parametrize(("batch", "seq_len"), [(1, 1), (2, 7)])
def test_dense_layer_is_what_torch_counts(batch, seq_len):
    hidden, inner = TINY.hidden_size, TINY.intermediate_size

    def layer():
        x = torch.zeros(batch, seq_len, hidden)
        x = F.linear(x, torch.zeros(3 * hidden, hidden))
        tail(attention(x, hidden, TINY.num_heads), hidden, inner)

    assert dense_layer_cost(TINY, seq_len, batch).flops == counted(layer)


def test_f_cls_layer_is_what_torch_counts():
    """The engine's algebra without deltas: K and V are never formed."""
    batch, seq_len, hidden, heads = 2, 7, TINY.hidden_size, TINY.num_heads
    size = hidden // heads

    def layer():
        x = torch.zeros(batch, seq_len, hidden)
        query = F.linear(x[:, 0], torch.zeros(hidden, hidden)).unflatten(-1, (heads, size))
        folded = torch.einsum("bad,adh->bah", query, torch.zeros(heads, size, hidden))
        weights = torch.einsum("bah,bsh->bas", folded, x)
        mixed = torch.einsum("bas,bsh->bah", weights, x)
        context = torch.einsum("bah,adh->bad", mixed, torch.zeros(heads, size, hidden))
        tail(context.flatten(1), hidden, TINY.intermediate_size)

    expected = counted(layer)
    assert layer_cost(TINY, LayerCase.F_CLS, seq_len, LayerNnz(), batch=batch).flops == expected


def test_head_is_what_torch_counts():
    hidden, steps, projection, lstm = TINY.hidden_size, TINY.num_layers, 12, 8

    def head():
        x = F.linear(torch.zeros(2, steps, hidden), torch.zeros(projection, hidden))
        for step, _ in itertools.product(range(steps), range(2)):
            F.linear(x[:, step], torch.zeros(4 * lstm, projection))
            F.linear(torch.zeros(2, lstm), torch.zeros(4 * lstm, lstm))
        F.linear(torch.zeros(2, 2 * lstm), torch.zeros(5, 2 * lstm))

    assert head_cost(TINY, 5, batch=2).flops == counted(head)
    assert head_cost(TINY, 5, "paper").flops == 0
    assert head_cost(TINY, 5, "paper").params == head_cost(TINY, 5).params


def test_worked_numbers_of_bert_base():
    assert dense_layer_cost(BASE, 128).flops == 1_862_270_976
    assert encoder_flops(BASE, 128) == 22_347_251_712
    nnz = LayerNnz.full(BASE)
    paper = {case: layer_cost(BASE, case, 128, nnz, "paper").flops for case in LIVE}
    attention, qkv, row = 4 * 128**2 * 768, 6 * 128 * 768**2, 2 * 768**2 + 4 * 768 * 3072
    assert paper[LayerCase.F_ALL] == paper[LayerCase.P_ALL] == qkv + attention + 128 * row
    assert paper[LayerCase.F_CLS] == paper[LayerCase.P_CLS] == qkv + attention + row
    assert paper[LayerCase.S_CLS] == paper[LayerCase.P_CLS] + 2 * 768**2  # its own query


@given(st.integers(1, 300), st.sampled_from(LIVE), st.integers(1, 3))
def test_engine_formulas_are_those_of_the_method(seq_len, case, batch):
    """METHOD section 4's table, written out again."""
    nnz = LayerNnz(3, 5, 7, 11, 13, 17)
    hidden, inner, heads = TINY.hidden_size, TINY.intermediate_size, TINY.num_heads
    row = 2 * hidden**2 + 4 * hidden * inner
    tail_row = row + 2 * 41
    p_all = 2 * seq_len * 15 + 4 * seq_len**2 * hidden + seq_len * row + 2 * seq_len * 41
    value = min(2 * seq_len * 7, 2 * 7 + 2 * heads * seq_len * hidden)
    p_cls = 6 + 10 + 10 * seq_len + 4 * seq_len * hidden + value + tail_row
    expected = {
        LayerCase.P_ALL: p_all,
        LayerCase.F_ALL: p_all + 6 * seq_len * hidden**2,
        LayerCase.P_CLS: p_cls,
        LayerCase.S_CLS: p_cls + 2 * hidden**2,
        LayerCase.F_CLS: 6 * hidden**2 + 4 * heads * seq_len * hidden + 30 + tail_row,
    }[case]
    assert layer_cost(TINY, case, seq_len, nnz, batch=batch).flops == batch * expected


def test_p_cls_takes_the_dense_algebra_where_it_is_cheaper():
    full, seq_len, hidden = LayerNnz.full(BASE), 128, 768
    cost = layer_cost(BASE, LayerCase.P_CLS, seq_len, full)
    dense_side = 4 * 12 * seq_len * hidden + 4 * hidden**2
    tail_row = 2 * (2 * hidden**2 + 4 * hidden * 3072)
    assert cost.flops == 2 * hidden**2 + 4 * seq_len * hidden + dense_side + tail_row


@pytest.mark.parametrize("tokens", [1, 9])
def test_delta_at_density_one_costs_a_dense_product(tokens):
    dense = op_cost("linear", tokens=tokens, in_features=24, out_features=40)
    sparse = op_cost("delta_linear", tokens=tokens, in_features=24, out_features=40, nnz=960)
    assert sparse.flops == dense.flops
    assert sparse.params == 960
    fused = op_cost("delta_qkv", tokens=tokens, hidden=24, nnz=3 * 24 * 24)
    assert fused.flops == op_cost("linear", tokens=tokens, in_features=24, out_features=72).flops


def test_p_all_at_qkv_density_one_is_a_dense_layer():
    full = LayerNnz.full(BASE)
    qkv_only = LayerNnz(full.query, full.key, full.value)
    for accounting in ACCOUNTINGS:
        cost = layer_cost(BASE, LayerCase.P_ALL, 128, qkv_only, accounting)
        assert cost.flops == dense_layer_cost(BASE, 128).flops


def test_cls_tail_at_density_one_is_twice_the_dense_one():
    full = op_cost("cls_tail", rows=3, hidden=24, intermediate=40, nnz=24 * 24 + 2 * 24 * 40)
    assert full.flops == 2 * op_cost("cls_tail", rows=3, hidden=24, intermediate=40, nnz=0).flops


@pytest.mark.parametrize("case", LIVE)
def test_steps_add_up(case):
    nnz = LayerNnz(3, 5, 7, 11, 13, 17)
    for accounting in ACCOUNTINGS:
        total = Cost.total(step.cost for step in layer_ops(TINY, case, 9, nnz, accounting, 2))
        cost = layer_cost(TINY, case, 9, nnz, accounting, 2)
        assert (cost.flops, cost.bytes) == (total.flops, total.bytes)
        assert cost.params == 56 + 8 * 24 + 40
    engine = Cost.total(step.cost for step in layer_ops(TINY, case, 9, nnz))
    assert engine.params == layer_params(TINY, case, nnz)


def test_tasks_in_one_call_share_what_is_read_once():
    sizes = {"rows": 2, "hidden": 24, "intermediate": 40}
    one, three = (op_cost("cls_tail", nnz=9 * t, tasks=t, **sizes) for t in (1, 3))
    assert three.flops == 3 * one.flops
    assert three.params == 3 * one.params
    assert three.bytes < 3 * one.bytes
    sizes = {"batch": 2, "seq_len": 5, "hidden": 24, "num_heads": 4, "cached": True}
    one, three = (
        op_cost("cls_attention", key_nnz=9 * t, value_nnz=7 * t, tasks=t, **sizes) for t in (1, 3)
    )
    assert three.flops == 3 * one.flops
    assert three.bytes < 3 * one.bytes


def test_bypass_costs_nothing():
    for accounting in ACCOUNTINGS:
        assert layer_cost(BASE, LayerCase.BYPASS, 128, LayerNnz.full(BASE), accounting) == Cost()


@given(st.sampled_from(LIVE), st.sampled_from(ACCOUNTINGS), st.integers(1, 600))
def test_monotone_in_length_and_non_zeros(case, accounting, seq_len):
    few, more = layer_nnz(BASE, 0.001), layer_nnz(BASE, 0.01)
    cost = layer_cost(BASE, case, seq_len, few, accounting)
    longer = layer_cost(BASE, case, seq_len + 1, few, accounting)
    denser = layer_cost(BASE, case, seq_len, more, accounting)
    assert cost.flops < longer.flops
    assert cost.bytes < longer.bytes
    assert cost.flops <= denser.flops
    assert cost.params < denser.params


@pytest.mark.parametrize("accounting", ACCOUNTINGS)
def test_cases_are_ordered_as_the_method_promises(accounting):
    prices = layer_prices(BASE, 128, 0.005, accounting)[0]
    assert prices.p_cls < prices.f_cls < prices.p_all < prices.f_all
    if accounting == "engine":
        assert prices.f_cls < 0.011 * dense_layer_cost(BASE, 128).flops


@given(st.text("pf", min_size=12, max_size=12), st.text("pf", min_size=12, max_size=12))
def test_prices_at_hard_choices_are_the_task_cost(input_letters, pool):
    """The recursion over 0/1 probabilities meets `task_cost` up to a rounded non-zero each."""
    policy = Policy("p" + input_letters[1:], pool)
    for accounting in ACCOUNTINGS:
        prices = layer_prices(BASE, 128, 0.005, accounting)
        total = feeds = 0
        for j in reversed(range(12)):
            live = 1 - (pool[j] == "p") * (1 - feeds)
            total += prices[j].expected(int(policy.input[j] == "f"), live, feeds)
            feeds = int(policy.input[j] == "f") * live
        cost = task_cost(BASE, policy, 128, 0.005, accounting)
        layers = sum(layer.flops for layer in cost.layers)
        assert abs(layers - total) <= 12 * 6 * 2 * 129


@given(st.integers(0, 12), st.floats(1e-6, 1.0))
def test_spread_sums_to_k_and_is_fair(layers, density):
    full = LayerNnz.full(BASE)
    counts = spread(BASE, range(layers), density)
    if not layers:
        assert counts == {}
        return
    kept = kept_weights(density, layers * full.total)
    assert sum(count.total for count in counts.values()) == kept
    for count in counts.values():
        for name in ("query", "key", "value", "out", "up", "down"):
            share = kept * getattr(full, name) / (layers * full.total)
            assert abs(getattr(count, name) - share) < 1 + 1e-6


def test_density_one_is_every_weight():
    assert spread(TINY, [0, 2], 1.0) == {0: LayerNnz.full(TINY), 2: LayerNnz.full(TINY)}


@pytest.mark.parametrize("density", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_density_out_of_range(density):
    with pytest.raises(LetsError, match=r"density must be in \(0, 1\]"):
        kept_weights(density, 100)


def test_counts_from_crow_and_for_policies():
    torch.manual_seed(0)
    masks = {
        "qkv": torch.rand(72, 24) < 0.3,
        "out": torch.rand(24, 24) < 0.3,
        "up": torch.rand(40, 24) < 0.3,
        "down": torch.rand(24, 40) < 0.3,
    }
    crow = {
        name: torch.cat([torch.zeros(1), mask.sum(1).cumsum(0)]) for name, mask in masks.items()
    }
    nnz = LayerNnz.from_crow(crow)
    assert nnz.total == sum(int(mask.sum()) for mask in masks.values())
    assert nnz.key == int(masks["qkv"][24:48].sum())
    assert nnz.down == int(masks["down"].sum())
    policy = Policy("ppf", "pff")
    assert policy_nnz(TINY, policy, {0: nnz, 1: nnz, 2: nnz}) == {1: nnz, 2: nnz}
    with pytest.raises(LetsError, match=r"every live layer, got none for \[2\]"):
        policy_nnz(TINY, policy, {1: nnz})


def flops_of_frozen(*policies, accounting="engine", seq_len=7):
    return frozen_cost(TINY, seq_len, [Policy(*p.split()) for p in policies], accounting)


FULL = dense_layer_cost(TINY, 7).flops
SQUARE = 24 * 24
ROW = 2 * SQUARE + 4 * 24 * 40


@pytest.mark.parametrize(
    ("policies", "paper", "engine"),
    [
        # QKV_0 alone; p-cls reads K, V and one row of Q, p-all all of it.
        (["pff fff"], 0, 6 * 7 * SQUARE),
        (["ppp fff"], 2 * FULL, 2 * FULL + 4 * 7 * SQUARE + 2 * SQUARE),
        (["ppf fff"], FULL, FULL + 6 * 7 * SQUARE),
        # x^p_2 for the pooling alone: two layers and the [CLS] row of the last.
        (["ppp ppp"], 3 * FULL, 2 * FULL + 6 * SQUARE + 4 * 4 * 7 * 24 + ROW),
        # The same with a task that reads QKV_2: the [CLS] row goes on with cached products.
        (
            ["ppp ppp", "ppp fff"],
            3 * FULL,
            2 * FULL + 4 * 7 * SQUARE + 2 * SQUARE + 4 * 7 * 24 + ROW,
        ),
        (["pff fpp"], 3 * FULL, 2 * FULL + 6 * SQUARE + 4 * 4 * 7 * 24 + ROW),
        ([], 0, 0),
    ],
)
def test_frozen_layers_run_only_as_far_as_they_are_read(policies, paper, engine):
    assert flops_of_frozen(*policies, accounting="paper").total.flops == paper
    assert flops_of_frozen(*policies).total.flops == engine


def test_ready_times():
    frozen = flops_of_frozen("ppf ffp", "ppp ppp")
    assert frozen.qkv_ready == {0: 6 * 7 * SQUARE, 1: FULL + 6 * 7 * SQUARE}
    assert frozen.hidden_ready[0] == FULL
    assert frozen.hidden_ready[2] == frozen.total.flops
    paper = flops_of_frozen("ppf fff", "ppp ppp", accounting="paper")
    assert paper.qkv_ready == {0: 0, 1: FULL}
    assert paper.hidden_ready == {-1: 0, 0: FULL, 1: 2 * FULL, 2: 3 * FULL}


@given(st.lists(policies(3), min_size=1, max_size=4))
def test_ready_times_lie_inside_the_overhead(policies):
    for accounting in ACCOUNTINGS:
        frozen = frozen_cost(TINY, 7, policies, accounting)
        hidden = frozenset().union(*(p.frozen_hidden for p in policies))
        assert set(frozen.hidden_ready) == hidden
        assert set(frozen.qkv_ready) == frozenset().union(*(p.frozen_qkv for p in policies))
        times = (*frozen.hidden_ready.values(), *frozen.qkv_ready.values())
        assert max(times) == frozen.total.flops


def test_unknown_names_are_refused():
    with pytest.raises(LetsError, match="op must be one of"):
        op_cost("matmul")
    with pytest.raises(LetsError, match="accounting must be one of paper, engine, got 'x'"):
        check_accounting("x")
    with pytest.raises(LetsError, match="must have 12 letters, one per layer of bert-base"):
        task_cost(BASE, Policy("p", "f"), 128, 0.005)


def test_costs_are_integers():
    for case, accounting in itertools.product(LIVE, ACCOUNTINGS):
        cost = layer_cost(BASE, case, 128, layer_nnz(BASE, 0.005), accounting)
        assert all(type(value) is int for value in (cost.flops, cost.bytes, cost.params))
    assert set(OPS) >= {"delta_linear", "delta_qkv", "cls_attention", "cls_tail"}
