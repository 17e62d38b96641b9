import pytest
import torch

from lets_ext import Delta, delta_linear, delta_linear_ref
from tests.factories import make_delta, make_tensor
from tests.tolerances import assert_close, assert_no_worse

OP = torch.ops.lets_ext.delta_linear.default
# num_tasks, base tasks, x tasks, rows, out_features, in_features
SHAPES = [
    (1, 1, 1, 1, 21, 7),
    (1, 1, 1, 5, 33, 19),
    (1, 1, 1, 131, 50, 35),
    (3, 1, 1, 17, 33, 19),
    (3, 3, 3, 65, 21, 40),
    (2, 1, 2, 0, 9, 5),
]


def make_inputs(shape=(2, 1, 2, 5, 21, 7), density=0.2, dtype=torch.float32, grad=False, bias=True):
    num_tasks, base_tasks, x_tasks, rows, out_features, in_features = shape
    return (
        make_tensor(base_tasks, rows, out_features, dtype=dtype, seed=2, grad=grad),
        make_tensor(x_tasks, rows, in_features, dtype=dtype, seed=3, grad=grad),
        make_delta(num_tasks, out_features, in_features, density, dtype, grad=grad),
        make_tensor(num_tasks, out_features, dtype=dtype, seed=4, grad=grad) if bias else None,
    )


def op_arguments(base, x, delta, bias=None):
    """Arguments of the dispatcher op."""
    layout = delta.layout
    tensors = (layout.crow_indices, layout.col_indices, layout.ccol_indices, layout.row_indices)
    return (base, x, delta.values, *tensors, layout.permutation, layout.num_tasks, bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape, density, dtype):
    inputs = make_inputs(shape, density, dtype)
    assert_close(delta_linear(*inputs), delta_linear_ref(*inputs))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_match_reference(shape):
    inputs = make_inputs(shape, dtype=torch.float32, grad=True)
    leaves = (inputs[0], inputs[1], inputs[2].values, inputs[3])
    weight = make_tensor(shape[0], shape[3], shape[4], seed=9)
    actual = torch.autograd.grad((delta_linear(*inputs) * weight).sum(), leaves)
    expected = torch.autograd.grad((delta_linear_ref(*inputs) * weight).sum(), leaves)
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3, 9, 4), (2, 1, 1, 4, 6, 5), (2, 2, 2, 20, 5, 3)])
def test_gradients(shape):
    base, x, delta, bias = make_inputs(shape, 0.4, torch.float64, grad=True)

    def op(base, x, values, bias):
        return delta_linear(base, x, Delta(delta.layout, values), bias)

    assert torch.autograd.gradcheck(op, (base, x, delta.values, bias))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("density", [0.0, 0.3])
def test_registration(density, bias):
    inputs = make_inputs(density=density, dtype=torch.float64, grad=True, bias=bias)
    torch.library.opcheck(OP, op_arguments(*inputs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_half_precision_is_no_worse(shape, dtype):
    inputs = make_inputs(shape, 0.3, dtype, grad=True)
    base, x, delta, bias = inputs
    wide = (base.double(), x.double(), Delta(delta.layout, delta.values.double()), bias.double())
    exact = delta_linear_ref(*wide)
    assert_no_worse(delta_linear(*inputs), delta_linear_ref(*inputs), exact)
    leaves = (base, x, delta.values, bias)
    ours, low, exact = (
        torch.autograd.grad(out.square().sum(), leaves)
        for out in (delta_linear(*inputs), delta_linear_ref(*inputs), exact)
    )
    for triple in zip(ours, low, exact, strict=True):
        assert_no_worse(*triple)


def test_compiles_to_one_graph():
    inputs = make_inputs(grad=True)
    compiled = torch.compile(lambda *a: delta_linear(*a).relu(), fullgraph=True)
    expected = delta_linear(*inputs).relu()
    assert_close(compiled(*inputs), expected)
    leaves = (inputs[1], inputs[2].values)
    ours = torch.autograd.grad(compiled(*inputs).sum(), leaves)
    for a, b in zip(ours, torch.autograd.grad(expected.sum(), leaves), strict=True):
        assert_close(a, b)


def test_strided_rows_need_no_copy():
    wide_base, wide_x = make_tensor(1, 9, 50), make_tensor(1, 9, 30)
    delta = make_delta(1, 21, 7)
    inputs = (wide_base[..., 5:26], wide_x[..., 11:18], delta)
    assert_close(delta_linear(*inputs), delta_linear_ref(*inputs))
    transposed = (make_tensor(1, 21, 9).mT, make_tensor(1, 7, 9).mT, delta)
    assert_close(delta_linear(*transposed), delta_linear_ref(*transposed))


def replaced(position, value):
    arguments = list(op_arguments(*make_inputs()))
    arguments[position] = value(arguments[position])
    return arguments


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, lambda base: base[:, :-1], r"base must have the 5 rows of x, got \[1, 4, 21\]"),
        (0, lambda base: base.double(), r"base must have the dtype of x"),
        (1, lambda x: x[0], r"x must have shape \[1 or 2, rows, features\], got \[5, 7\]"),
        (1, lambda x: x.int(), r"x"),
        (2, lambda values: values[None], r"values must have shape \[nnz\]"),
        (2, lambda values: values[:-1], r"col_indices must have shape \[\d+\] \(nnz\)"),
        (3, lambda crow: crow[:-1], r"crow_indices must have shape \[43\]"),
        (3, lambda crow: crow.long(), "crow_indices must be contiguous int32, got int64; build"),
        (3, lambda crow: crow.flip(0), r"indices must be a CSR structure"),
        (4, lambda col: col + 7, r"indices must be a CSR structure"),
        (4, lambda col: -1 - col, r"indices must be a CSR structure"),
        (8, lambda _: 3, r"x must have shape \[1 or 3"),
        (9, lambda bias: bias[:, :-1], r"bias must have shape \[2, 21\]"),
    ],
)
def test_rejects(position, value, message):
    with pytest.raises(RuntimeError, match=message):
        OP(*replaced(position, value))


def test_rejects_bad_permutation():
    base, _, delta, _ = make_inputs()
    grad = base.expand(2, -1, -1).contiguous()
    layout = delta.layout
    bad = layout.permutation + 1
    with pytest.raises(RuntimeError, match=r"permutation must be in \[0, \d+\) \(nnz\)"):
        torch.ops.lets_ext.delta_linear_bwd_x(
            grad, delta.values, layout.ccol_indices, layout.row_indices, bad, 2, 7
        )
