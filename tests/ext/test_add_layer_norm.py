import pytest
import torch

from lets_ext import add_layer_norm, add_layer_norm_ref
from tests.factories import make_tensor
from tests.isa import each_isa
from tests.tolerances import assert_close, assert_no_worse

OP = torch.ops.lets_ext.add_layer_norm.default
# T, tasks of the residual, tasks of the vectors, N, H
SHAPES = [(1, 1, 1, 1, 2), (1, 1, 1, 5, 33), (3, 1, 3, 4, 50), (3, 3, 1, 90, 260), (2, 1, 2, 0, 8)]


def make_inputs(shape=(2, 1, 2, 3, 21), dtype=torch.float32, grad=False, bias=True):
    num_tasks, residual_tasks, vector_tasks, rows, hidden = shape

    def tensor(seed, *sizes):
        return make_tensor(*sizes, dtype=dtype, seed=seed, grad=grad)

    vectors = [tensor(seed, vector_tasks, hidden) for seed in (3, 4, 5)]
    return (
        tensor(1, num_tasks, rows, hidden),
        tensor(2, residual_tasks, rows, hidden),
        *vectors[:2],
        vectors[2] if bias else None,
    )


def differentiable(inputs):
    return [t for t in inputs if t is not None]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape, dtype, bias):
    inputs = make_inputs(shape, dtype, bias=bias)
    assert_close(add_layer_norm(*inputs), add_layer_norm_ref(*inputs))


@each_isa
def test_instruction_sets_agree(isa):
    inputs = make_inputs((3, 1, 3, 4, 151))
    assert_close(add_layer_norm(*inputs, eps=1e-5), add_layer_norm_ref(*inputs, eps=1e-5))


def test_large_mean_does_not_cancel():
    x, residual, weight, norm_bias, bias = make_inputs()
    exact = add_layer_norm_ref(*(t.double() for t in (x + 1000, residual, weight, norm_bias, bias)))
    actual = add_layer_norm(x + 1000, residual, weight, norm_bias, bias)
    torch.testing.assert_close(actual.double(), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(2, 1, 2, 3, 5), (2, 2, 1, 2, 4)], ids=str)
def test_gradients(shape, bias):
    inputs = make_inputs(shape, torch.float64, grad=True, bias=bias)
    assert torch.autograd.gradcheck(lambda *a: add_layer_norm(*a, eps=1e-3), inputs)


@each_isa
def test_gradients_of_more_rows_than_a_split(isa):
    for shape in ((3, 1, 3, 71, 35), (2, 2, 1, 32, 64), (2, 1, 2, 0, 8)):
        inputs = make_inputs(shape, grad=True)
        ours, theirs = (
            torch.autograd.grad(f(*inputs, eps=1e-3).sin().sum(), inputs)
            for f in (add_layer_norm, add_layer_norm_ref)
        )
        for a, b in zip(ours, theirs, strict=True):
            assert_close(a, b)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, lambda g: g[:, :2], r"grad must have the shape of x \[2, 3, 21\], got \[2, 2, 21\]"),
        (5, lambda m: m.double(), "mean must be what add_layer_norm returned for x, got shape"),
        (6, lambda r: r[:1], r"rstd must be what .* got shape \[1, 3\] of float32"),
    ],
)
def test_gradients_refuse(position, value, message):
    x, residual, weight, norm_bias, bias = make_inputs()
    out, mean, rstd = OP(x, residual, weight, norm_bias, bias, 1e-5)
    inputs = [out, x, residual, weight, bias, mean, rstd]
    inputs[position] = value(inputs[position])
    with pytest.raises(RuntimeError, match=message):
        torch.ops.lets_ext.add_layer_norm_bwd(*inputs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES[1:], ids=str)
def test_half_precision_is_no_worse(shape, dtype):
    inputs = make_inputs(shape, dtype, grad=True)
    wide = [t.detach().double().requires_grad_() for t in inputs]
    results = [f(*i) for f, i in (
        (add_layer_norm, inputs), (add_layer_norm_ref, inputs), (add_layer_norm_ref, wide),
    )]  # fmt: skip
    assert_no_worse(*results)
    leaves = (inputs, inputs, wide)
    gradients = [
        torch.autograd.grad(r.square().sum(), i) for r, i in zip(results, leaves, strict=True)
    ]
    for triple in zip(*gradients, strict=True):
        assert_no_worse(*triple)


@pytest.mark.parametrize("bias", [False, True])
def test_registration(bias):
    torch.library.opcheck(OP, (*make_inputs(grad=True, bias=bias), 1e-5))
    x, residual, *vectors = make_inputs((2, 1, 2, 71, 21), bias=bias)  # rows of three splits
    out, mean, rstd = OP(x, residual, *vectors, 1e-5)
    inputs = (out, x, residual, vectors[0], vectors[2], mean, rstd)
    torch.library.opcheck(torch.ops.lets_ext.add_layer_norm_bwd.default, inputs)


def test_compiles_to_one_graph():
    inputs = make_inputs(grad=True)
    compiled = torch.compile(
        lambda *a: add_layer_norm(*a).sin(), fullgraph=True, backend="aot_eager"
    )
    expected = add_layer_norm(*inputs).sin()
    assert_close(compiled(*inputs), expected)
    ours = torch.autograd.grad(compiled(*inputs).sum(), inputs)
    for a, b in zip(ours, torch.autograd.grad(expected.sum(), inputs), strict=True):
        assert_close(a, b)


def test_nan_stays_in_its_row():
    inputs = make_inputs()
    inputs[0][1, 2, 3] = float("nan")
    bad = add_layer_norm(*inputs).isnan()
    assert bad[1, 2].all()
    assert bad.sum() == bad.shape[2]


def test_strided_inputs():
    x, *rest = make_inputs()
    x = x.mT.contiguous().mT
    assert_close(add_layer_norm(x, *rest), add_layer_norm_ref(x, *rest))


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, lambda x: x[0], r"x must have shape \[T, N, features\], got \[3, 21\]"),
        (0, lambda x: x.int(), r"residual must have the dtype of x \(int32\), got float32"),
        (1, lambda r: r[:, :-1], r"residual must have shape \[1 or 2, 3, 21\], got \[1, 2, 21\]"),
        (2, lambda w: w[0], r"weight must have shape \[1 or 2, 21\], got \[21\]"),
        (3, lambda b: b[..., :-1], r"norm_bias must have shape \[1 or 2, 21\], got \[2, 20\]"),
        (4, lambda b: b.double(), r"bias must have the dtype of x \(float32\), got float64"),
    ],
)
def test_rejects(position, value, message):
    inputs = list(make_inputs())
    inputs[position] = value(inputs[position])
    with pytest.raises(RuntimeError, match=message):
        add_layer_norm(*inputs)


@pytest.mark.parametrize("eps", [-1e-12, float("nan"), float("inf")])
def test_rejects_eps(eps):
    with pytest.raises(RuntimeError, match="eps must be a finite number and at least 0, got"):
        add_layer_norm(*make_inputs(), eps=eps)
