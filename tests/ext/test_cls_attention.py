import pytest
import torch

from lets_ext import Delta, cls_attention, cls_attention_ref
from tests.factories import generator, make_delta, make_tensor
from tests.isa import each_isa
from tests.tolerances import assert_close, assert_no_worse

OP = torch.ops.lets_ext.cls_attention.default
OP_BWD = torch.ops.lets_ext.cls_attention_bwd.default
LEAVES = ("q", "x", "key", "value", "value_bias", "attn_bias")
# T, tasks of x, tasks of key and value, B, S, A, H
SHAPES = [
    (1, 1, 1, 1, 1, 1, 5),
    (1, 1, 1, 3, 37, 3, 51),
    (1, 1, 1, 1, 130, 12, 96),
    (3, 1, 1, 2, 19, 3, 33),
    (3, 3, 3, 3, 9, 2, 14),
    (2, 2, 1, 1, 18, 4, 20),
    (2, 1, 2, 1, 5, 4, 20),
]
CASES = {
    "frozen input": ("key", "value", "key_delta", "value_delta", "value_bias"),
    "own input": ("key_weight", "value_weight", "key_delta", "value_delta", "value_bias"),
    "no deltas": ("key", "value"),
    "mixed": ("key", "value_weight", "value_delta", "attn_bias"),
    "everything": (
        "key", "value", "key_weight", "value_weight", "key_delta", "value_delta", "value_bias",
        "attn_bias",
    ),
}  # fmt: skip


def make_inputs(
    shape=(2, 1, 1, 2, 7, 3, 12),
    case="everything",
    density=0.2,
    dtype=torch.float32,
    grad=False,
    masked=True,
):
    num_tasks, x_tasks, cached_tasks, batch, length, num_heads, hidden = shape

    def tensor(seed, *sizes, scale=1.0, grad=grad):
        return (
            (make_tensor(*sizes, seed=seed, dtype=torch.float64) * scale)
            .to(dtype)
            .requires_grad_(grad)
        )

    weight = hidden**-0.5
    optional = {
        "key": tensor(3, cached_tasks, batch, length, hidden),
        "value": tensor(4, cached_tasks, batch, length, hidden),
        "key_weight": tensor(5, hidden, hidden, scale=weight, grad=False),
        "value_weight": tensor(6, hidden, hidden, scale=weight, grad=False),
        "key_delta": make_delta(num_tasks, hidden, hidden, density, dtype, 7, grad),
        "value_delta": make_delta(num_tasks, hidden, hidden, density, dtype, 8, grad),
        "value_bias": tensor(9, num_tasks, hidden),
        "attn_bias": tensor(10, num_heads, length),
    }
    inputs = {name: optional[name] for name in CASES[case]}
    inputs |= {"q": tensor(1, num_tasks, batch, hidden), "num_heads": num_heads}
    inputs |= {"x": tensor(2, x_tasks, batch, length, hidden)}
    if masked:
        mask = torch.rand(batch, length, generator=generator(11)) < 0.7
        mask[0, -(length // 3) :] = length < 3  # trailing padding
        inputs["key_mask"] = mask
    return inputs


def leaves(inputs):
    values = [inputs[name].values for name in ("key_delta", "value_delta") if name in inputs]
    return [inputs[name] for name in LEAVES if name in inputs] + values


def double(value):
    if isinstance(value, Delta):
        return Delta(value.layout, double(value.values))
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return value.detach().double().requires_grad_(value.requires_grad)


def op_arguments(
    q, x, num_heads, key=None, value=None, key_weight=None, value_weight=None, key_delta=None,
    value_delta=None, value_bias=None, key_mask=None, attn_bias=None, save=True,
):  # fmt: skip
    """Arguments of the dispatcher op."""

    def parts(delta):
        if delta is None:
            return None, None, None
        return delta.layout.crow_indices, delta.layout.col_indices, delta.values

    weights = (key, value, key_weight, value_weight)
    deltas = (*parts(key_delta), *parts(value_delta))
    return [q, x, *weights, *deltas, value_bias, key_mask, attn_bias, num_heads, 0.5, save]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape, case, dtype):
    for masked in (False, True):
        inputs = make_inputs(shape, case, 0.2, dtype, masked=masked)
        assert_close(cls_attention(**inputs), cls_attention_ref(**inputs))


@pytest.mark.parametrize("density", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("case", ["frozen input", "own input"])
def test_density(case, density):
    inputs = make_inputs(SHAPES[3], case, density, torch.float64)
    assert_close(cls_attention(**inputs), cls_attention_ref(**inputs))


@each_isa
def test_instruction_sets_agree(isa):
    inputs = make_inputs((3, 1, 1, 2, 37, 4, 100))
    assert_close(cls_attention(**inputs), cls_attention_ref(**inputs))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(2, 1, 1, 2, 3, 2, 4), (2, 2, 2, 1, 4, 1, 3)], ids=str)
def test_gradients(shape, case):
    inputs = make_inputs(shape, case, 0.4, torch.float64, grad=True)
    if "attn_bias" in inputs:
        del inputs["key_mask"]
    assert torch.autograd.gradcheck(lambda *_: cls_attention(**inputs), leaves(inputs))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_match_reference(shape):
    inputs = make_inputs(shape, dtype=torch.float64, grad=True)
    weight = make_tensor(*inputs["q"].shape, dtype=torch.float64, seed=12)
    actual, expected = (
        torch.autograd.grad((function(**inputs) * weight).sum(), leaves(inputs))
        for function in (cls_attention, cls_attention_ref)
    )
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_half_precision_is_no_worse(shape, dtype):
    inputs = make_inputs(shape, dtype=dtype, grad=True)
    wide = {name: double(value) for name, value in inputs.items()}
    results = cls_attention(**inputs), cls_attention_ref(**inputs), cls_attention_ref(**wide)
    assert_no_worse(*results)
    gradients = (
        torch.autograd.grad(out.sum(), leaves(used))
        for out, used in zip(results, (inputs, inputs, wide), strict=True)
    )
    for triple in zip(*gradients, strict=True):
        assert_no_worse(*triple)


@pytest.mark.parametrize("case", ["frozen input", "own input", "everything"])
def test_registration(case):
    inputs = make_inputs(case=case, dtype=torch.float64, grad=True)
    torch.library.opcheck(OP, op_arguments(**inputs))
    without = {name: _detached(value) for name, value in inputs.items()}
    torch.library.opcheck(OP, op_arguments(**without, save=False))
    out, probs, *_ = OP(*op_arguments(**without))
    arguments = op_arguments(**without)
    key_parts, value_parts = arguments[6:9], arguments[9:12]
    backward = [*arguments[:6][1:2], probs, *arguments[2:6], *key_parts, *value_parts]
    backward += [without.get("key_mask"), without["num_heads"], 0.5]
    torch.library.opcheck(OP_BWD, [torch.ones_like(out), *backward])


def _detached(value):
    if isinstance(value, Delta):
        return Delta(value.layout, value.values.detach())
    return value.detach() if isinstance(value, torch.Tensor) else value


def test_saves_nothing_without_a_gradient():
    inputs = make_inputs(grad=True)
    saved = OP(*op_arguments(**inputs))
    assert all(t.numel() > 0 for t in saved)
    with torch.no_grad():
        out, *rest = OP(*op_arguments(**inputs, save=False))
    assert torch.equal(out, saved[0])
    assert all(t.numel() == 0 for t in rest)
    with pytest.raises(RuntimeError, match="save must be True where a gradient is wanted"):
        OP(*op_arguments(**inputs, save=False))


def test_gradients_are_deterministic():
    inputs = make_inputs((3, 1, 1, 2, 37, 4, 100), grad=True)
    inputs["key_mask"][0, -5:] = False

    def gradients():
        return torch.autograd.grad(cls_attention(**inputs).square().sum(), leaves(inputs))

    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 1, 3):
            torch.set_num_threads(n)
            results.append(gradients()[-2:])  # the deltas' values
    finally:
        torch.set_num_threads(threads)
    for again in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], again, strict=True))


def test_compiles_to_one_graph():
    inputs = make_inputs(grad=True)
    compiled = torch.compile(
        lambda: cls_attention(**inputs).sin(), fullgraph=True, backend="aot_eager"
    )
    expected = cls_attention(**inputs).sin()
    assert_close(compiled(), expected)
    ours = torch.autograd.grad(compiled().sum(), leaves(inputs))
    theirs = torch.autograd.grad(expected.sum(), leaves(inputs))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_slices_of_a_fused_projection_need_no_copy():
    inputs = make_inputs((1, 1, 1, 2, 7, 3, 12), "frozen input")
    fused = make_tensor(1, 2, 7, 36, seed=13)
    inputs["key"], inputs["value"] = fused[..., 12:24], fused[..., 24:]
    assert_close(cls_attention(**inputs), cls_attention_ref(**inputs))
    inputs["x"] = inputs["x"].mT.contiguous().mT
    assert_close(cls_attention(**inputs), cls_attention_ref(**inputs))


def test_sequence_without_keys_gets_the_bias_alone():
    inputs = make_inputs(case="own input", grad=True)
    inputs["key_mask"] = torch.tensor([[True] * 7, [False] * 7])
    out = cls_attention(**inputs)
    assert_close(out, cls_attention_ref(**inputs))
    assert_close(out[:, 1], inputs["value_bias"])
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), leaves(inputs)))


def test_masked_keys_do_not_matter():
    inputs = make_inputs()
    inputs["key_mask"] = torch.tensor([[True, True, False, True, False, False, False]] * 2)
    expected = cls_attention(**inputs)
    changed = {n: inputs[n].clone() for n in ("x", "key", "value")}
    for tensor in changed.values():
        tensor[:, :, 2] = 1e3
        tensor[:, :, 4:] = float("nan")  # trailing padding is not even read
    assert torch.equal(cls_attention(**(inputs | changed)), expected)


def test_nan_propagates():
    inputs = make_inputs((2, 2, 1, 2, 7, 3, 12), "own input", masked=False)
    inputs["x"][0, 1, 3, 5] = float("nan")
    bad = cls_attention(**inputs).isnan()
    assert bad[0, 1].all()
    assert not bad[1].any()
    assert not bad[0, 0].any()


def test_threads_do_not_change_results():
    inputs = make_inputs((3, 1, 1, 2, 37, 4, 100))
    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            results.append(cls_attention(**inputs))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("q", lambda q: q[0], r"q must have shape \[T, B, H\], got \[2, 12\]"),
        ("q", lambda q: q.int(), r"x must have the dtype of q"),
        ("x", lambda x: x[0], r"x must have shape \[1 or 2, B, S, H\]"),
        (
            "x",
            lambda x: x[..., :-1],
            r"x must have shape \[1 or 2, 2, 7, 12\], got \[1, 2, 7, 11\]",
        ),
        ("key", lambda key: key[:, :, :-1], r"key must have shape \[1 or 2, 2, 7, 12\]"),
        ("value", lambda value: value.double(), r"value must have the dtype of q"),
        ("key_weight", lambda weight: weight[:-1], r"key_weight must have shape \[12, 12\]"),
        ("value_bias", lambda bias: bias[:1], r"value_bias must have shape \[2, 12\]"),
        ("key_mask", lambda mask: mask[:, :-1], r"key_mask must have shape \[2, 7\]"),
        ("key_mask", lambda mask: mask.float(), "key_mask must have dtype bool, got float32"),
        ("attn_bias", lambda bias: bias[:1], r"attn_bias must have shape \[3, 7\]"),
        ("scale", lambda _: float("nan"), "scale must be a finite number, got nan"),
        ("scale", lambda _: float("inf"), "scale must be a finite number, got inf"),
        ("num_heads", lambda _: 5, r"num_heads must divide the hidden size 12, got 5"),
    ],
)
def test_rejects(name, value, message):
    inputs = make_inputs()
    inputs[name] = value(inputs.get(name))
    with pytest.raises((RuntimeError, ValueError), match=message):
        cls_attention(**inputs)


def test_rejects_bad_deltas():
    inputs = make_inputs()
    arguments = op_arguments(**inputs)
    for position in (7, 10):
        bad = list(arguments)
        bad[position] = arguments[position] + 12
        with pytest.raises(RuntimeError, match="indices must be a CSR structure"):
            OP(*bad)
    with pytest.raises(ValueError, match=r"key_delta must be 2 x \[12, 12\], got 1 x \[12, 12\]"):
        cls_attention(**(inputs | {"key_delta": make_delta(1, 12, 12)}))


def test_rejects_trainable_weights_and_missing_keys():
    inputs = make_inputs()
    with pytest.raises(ValueError, match="key_weight must be frozen"):
        cls_attention(**(inputs | {"key_weight": inputs["key_weight"].clone().requires_grad_()}))
    with pytest.raises(ValueError, match="scale must not be 0"):
        cls_attention(**inputs, scale=0.0)
    with pytest.raises(RuntimeError, match="key or key_weight must be given, got neither"):
        cls_attention(**(inputs | {"key": None, "key_weight": None}))
