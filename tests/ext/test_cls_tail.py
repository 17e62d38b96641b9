import pytest
import torch

from lets_ext import Delta, cls_tail, cls_tail_ref
from tests.factories import make_delta, make_tensor
from tests.isa import each_isa
from tests.tolerances import assert_close, assert_no_worse

OP = torch.ops.lets_ext.cls_tail.default
# T, tasks of the residual, tasks of the vectors, M, H, F
SHAPES = [
    (1, 1, 1, 1, 5, 7),
    (1, 1, 1, 9, 33, 50),
    (3, 1, 3, 1, 50, 70),
    (9, 9, 9, 2, 27, 100),
    (3, 3, 1, 5, 19, 24),
    (2, 1, 2, 0, 9, 5),
]
WEIGHTS = {"out": ("H", "H"), "up": ("F", "H"), "down": ("H", "F")}
VECTORS = {
    "out_bias": "H", "attn_norm_weight": "H", "attn_norm_bias": "H", "up_bias": "F",
    "down_bias": "H", "norm_weight": "H", "norm_bias": "H",
}  # fmt: skip


def make_inputs(
    shape=(2, 1, 2, 3, 12, 17), density=0.2, dtype=torch.float32, grad=False, deltas=tuple(WEIGHTS)
):
    num_tasks, residual_tasks, vector_tasks, rows, hidden, inner = shape
    size = {"H": hidden, "F": inner}
    inputs = {
        "ctx": make_tensor(num_tasks, rows, hidden, dtype=dtype, seed=1, grad=grad),
        "residual": make_tensor(residual_tasks, rows, hidden, dtype=dtype, seed=2, grad=grad),
        "eps": 1e-5,
    }
    for seed, (name, features) in enumerate(VECTORS.items(), 3):
        inputs[name] = make_tensor(vector_tasks, size[features], dtype=dtype, seed=seed, grad=grad)
    for seed, (name, (out, into)) in enumerate(WEIGHTS.items(), 20):
        weight = make_tensor(size[out], size[into], dtype=torch.float64, seed=seed)
        inputs[f"{name}_weight"] = (weight * size[into] ** -0.5).to(dtype)
        if name in deltas:
            inputs[f"{name}_delta"] = make_delta(
                num_tasks, size[out], size[into], density, dtype, seed + 10, grad
            )
    return inputs


def leaves(inputs):
    values = [v.values for v in inputs.values() if isinstance(v, Delta)]
    return [inputs[name] for name in ("ctx", "residual", *VECTORS)] + values


def double(value):
    if isinstance(value, Delta):
        return Delta(value.layout, double(value.values))
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().double().requires_grad_(value.requires_grad)


def op_arguments(inputs):
    """Arguments of the dispatcher op."""

    def parts(delta):
        if delta is None:
            return (None,) * 6
        layout = delta.layout
        transposed = (layout.ccol_indices, layout.row_indices, layout.permutation)
        return delta.values, layout.crow_indices, layout.col_indices, *transposed

    names = ("ctx", "residual", *(f"{name}_weight" for name in WEIGHTS), *VECTORS)
    deltas = [tensor for name in WEIGHTS for tensor in parts(inputs.get(f"{name}_delta"))]
    return [*(inputs[name] for name in names), *deltas, inputs["eps"]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape, density, dtype):
    inputs = make_inputs(shape, density, dtype)
    assert_close(cls_tail(**inputs), cls_tail_ref(**inputs))


@pytest.mark.parametrize("deltas", [(), ("out",), ("up", "down")], ids=str)
def test_deltas_are_optional(deltas):
    inputs = make_inputs(deltas=deltas, dtype=torch.float64, grad=True)
    ours, theirs = cls_tail(**inputs), cls_tail_ref(**inputs)
    assert_close(ours, theirs)
    gradients = (torch.autograd.grad(out.sin().sum(), leaves(inputs)) for out in (ours, theirs))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@each_isa
def test_instruction_sets_agree(isa):
    inputs = make_inputs((3, 1, 3, 4, 151, 205))
    assert_close(cls_tail(**inputs), cls_tail_ref(**inputs))


@pytest.mark.parametrize("shape", [(2, 1, 2, 2, 4, 5), (2, 2, 1, 1, 3, 6)], ids=str)
def test_gradients(shape):
    inputs = make_inputs(shape, 0.3, torch.float64, grad=True)
    inputs["eps"] = 1e-2
    assert torch.autograd.gradcheck(lambda *_: cls_tail(**inputs), leaves(inputs))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_match_reference(shape):
    inputs = make_inputs(shape, dtype=torch.float64, grad=True)
    weight = make_tensor(*inputs["ctx"].shape, dtype=torch.float64, seed=12)
    actual, expected = (
        torch.autograd.grad((function(**inputs) * weight).sum(), leaves(inputs))
        for function in (cls_tail, cls_tail_ref)
    )
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_half_precision_is_no_worse(shape, dtype):
    inputs = make_inputs(shape, dtype=dtype, grad=True)
    wide = {name: double(value) for name, value in inputs.items()}
    results = cls_tail(**inputs), cls_tail_ref(**inputs), cls_tail_ref(**wide)
    assert_no_worse(*results)
    weight = make_tensor(*inputs["ctx"].shape, seed=12)
    gradients = (
        torch.autograd.grad((out * weight).sum(), leaves(used))
        for out, used in zip(results, (inputs, inputs, wide), strict=True)
    )
    for triple in zip(*gradients, strict=True):
        assert_no_worse(*triple)


@pytest.mark.parametrize("deltas", [(), tuple(WEIGHTS)], ids=str)
def test_registration(deltas):
    inputs = make_inputs(dtype=torch.float64, grad=True, deltas=deltas)
    torch.library.opcheck(OP, op_arguments(inputs))


def test_compiles_to_one_graph():
    inputs = make_inputs(dtype=torch.float64, grad=True)
    compiled = torch.compile(lambda: cls_tail(**inputs).sin(), fullgraph=True, backend="aot_eager")
    expected = cls_tail(**inputs).sin()
    assert_close(compiled(), expected)
    ours = torch.autograd.grad(compiled().sum(), leaves(inputs))
    for a, b in zip(ours, torch.autograd.grad(expected.sum(), leaves(inputs)), strict=True):
        assert_close(a, b)


def test_nan_stays_in_its_row():
    inputs = make_inputs()
    inputs["ctx"][1, 2, 3] = float("nan")
    bad = cls_tail(**inputs).isnan()
    assert bad[1, 2].all()
    assert bad.sum() == bad.shape[2]


def test_threads_do_not_change_results():
    inputs = make_inputs((3, 1, 3, 4, 151, 205))
    threads = torch.get_num_threads()
    try:
        results = []
        for n in (1, 2, 5):
            torch.set_num_threads(n)
            results.append(cls_tail(**inputs))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_strided_inputs():
    inputs = make_inputs()
    for name in ("ctx", "residual", "up_weight"):
        inputs[name] = inputs[name].mT.contiguous().mT
    assert_close(cls_tail(**inputs), cls_tail_ref(**inputs))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ctx", lambda t: t[0], r"ctx must have shape \[T, N, features\], got \[3, 12\]"),
        ("residual", lambda t: t[:, :-1], r"residual must have shape \[1 or 2, 3, 12\]"),
        ("residual", lambda t: t.double(), "residual must have the dtype of ctx"),
        ("out_weight", lambda t: t[:-1], r"out_weight must have shape \[12, 12\], got \[11, 12\]"),
        ("up_weight", lambda t: t[0], r"up_weight must have shape \[F, 12\], got \[12\]"),
        ("down_weight", lambda t: t.mT, r"down_weight must have shape \[12, 17\], got \[17, 12\]"),
        ("up_bias", lambda t: t[:, :-1], r"up_bias must have shape \[1 or 2, 17\]"),
        ("norm_bias", lambda t: t[0], r"norm_bias must have shape \[1 or 2, 12\], got \[12\]"),
        ("eps", lambda _: -1e-5, "eps must be a finite number and at least 0, got -1e-05"),
        ("eps", lambda _: float("nan"), "eps must be a finite number and at least 0, got nan"),
        ("norm_weight", lambda t: t.double(), "norm_weight must have the dtype of ctx"),
    ],
)
def test_rejects(name, value, message):
    inputs = make_inputs(deltas=())
    inputs[name] = value(inputs[name])
    with pytest.raises(RuntimeError, match=message):
        cls_tail(**inputs)


def test_rejects_bad_deltas_and_trainable_weights():
    inputs = make_inputs()
    arguments = op_arguments(inputs)
    for position in (14, 20, 26):  # column indices
        bad = list(arguments)
        bad[position] = arguments[position] + 17
        with pytest.raises(RuntimeError, match="indices must be a CSR structure"):
            OP(*bad)
    with pytest.raises(ValueError, match=r"up_delta must be 2 x \[17, 12\], got 1 x \[12, 17\]"):
        cls_tail(**(inputs | {"up_delta": make_delta(1, 12, 17)}))
    weight = inputs["up_weight"].clone().requires_grad_()
    with pytest.raises(ValueError, match="up_weight must be frozen"):
        cls_tail(**(inputs | {"up_weight": weight}))
