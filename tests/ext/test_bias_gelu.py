import pytest
import torch

from lets_ext import bias_gelu, bias_gelu_ref
from tests.factories import make_tensor
from tests.isa import each_isa
from tests.tolerances import assert_close, assert_no_worse

OP = torch.ops.lets_ext.bias_gelu.default
SHAPES = [(1, 1, 1, 1), (1, 1, 5, 33), (3, 3, 2, 50), (3, 1, 7, 19), (2, 1, 0, 8), (1, 1, 300, 130)]


def make_inputs(shape=(2, 1, 3, 21), dtype=torch.float32, grad=False):
    num_tasks, bias_tasks, rows, features = shape
    x = make_tensor(num_tasks, rows, features, dtype=torch.float64, seed=1) * 2
    bias = make_tensor(bias_tasks, features, dtype=dtype, seed=2, grad=grad)
    return x.to(dtype).requires_grad_(grad), bias


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape, dtype):
    inputs = make_inputs(shape, dtype)
    assert_close(bias_gelu(*inputs), bias_gelu_ref(*inputs))


@each_isa
def test_error_over_the_whole_range(isa):
    x = torch.linspace(-12, 12, 200_001)[None, None]
    exact = bias_gelu_ref(x.double(), torch.zeros(1, x.shape[2], dtype=torch.float64))
    error = bias_gelu(x, torch.zeros(1, x.shape[2])).double() - exact
    assert error.abs().max() <= 6e-7


def test_special_values():
    x = torch.tensor([[[float("inf"), float("-inf"), float("nan"), 1e30, -1e30, 0.0, -0.0]]])
    expected = torch.tensor([[[float("inf"), 0.0, float("nan"), 1e30, 0.0, 0.0, 0.0]]])
    actual = bias_gelu(x, torch.zeros(1, 7))
    torch.testing.assert_close(actual, expected, equal_nan=True)


@pytest.mark.parametrize("bias_tasks", [1, 2])
def test_gradients(bias_tasks):
    inputs = make_inputs((2, bias_tasks, 3, 5), torch.float64, grad=True)
    assert torch.autograd.gradcheck(bias_gelu, inputs)


@each_isa
def test_error_of_the_slope_over_the_whole_range(isa):
    x = torch.linspace(-12, 12, 200_001)[None, None]
    bias = torch.zeros(1, x.shape[2])
    grad, _ = torch.ops.lets_ext.bias_gelu_bwd(torch.ones_like(x), x, bias)
    exact = torch.ops.aten.gelu_backward(torch.ones_like(x.double()), x.double())
    assert (grad.double() - exact).abs().max() <= 6e-7


def test_slope_of_special_values():
    x = torch.tensor([[[float("inf"), float("-inf"), float("nan"), 1e30, -1e30, 0.0]]])
    grad, _ = torch.ops.lets_ext.bias_gelu_bwd(torch.ones_like(x), x, torch.zeros(1, 6))
    expected = torch.tensor([[[1.0, 0.0, float("nan"), 1.0, 0.0, 0.5]]])
    torch.testing.assert_close(grad, expected, equal_nan=True)


@pytest.mark.parametrize("bias_tasks", [1, 3])
@pytest.mark.parametrize("rows", [0, 32, 71])
def test_gradients_of_more_rows_than_a_split(bias_tasks, rows):
    inputs = make_inputs((3, bias_tasks, rows, 19), grad=True)
    ours, theirs = (
        torch.autograd.grad(f(*inputs).sin().sum(), inputs) for f in (bias_gelu, bias_gelu_ref)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b)


def test_gradients_refuse_another_shape():
    x, bias = make_inputs()
    with pytest.raises(RuntimeError, match=r"grad must have the shape of x \[2, 3, 21\], got"):
        torch.ops.lets_ext.bias_gelu_bwd(x[:, :2], x, bias)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_half_precision_is_no_worse(shape, dtype):
    inputs = make_inputs(shape, dtype, grad=True)
    wide = [t.detach().double().requires_grad_() for t in inputs]
    results = bias_gelu(*inputs), bias_gelu_ref(*inputs), bias_gelu_ref(*wide)
    assert_no_worse(*results)
    leaves = (inputs, inputs, wide)
    gradients = [torch.autograd.grad(r.sum(), i) for r, i in zip(results, leaves, strict=True)]
    for triple in zip(*gradients, strict=True):
        assert_no_worse(*triple)


def test_registration():
    torch.library.opcheck(OP, make_inputs(grad=True))
    x, bias = make_inputs((2, 1, 71, 21))  # rows of three splits
    torch.library.opcheck(torch.ops.lets_ext.bias_gelu_bwd.default, (x, x, bias))


def test_compiles_to_one_graph():
    inputs = make_inputs(grad=True)
    compiled = torch.compile(lambda *a: bias_gelu(*a).sin(), fullgraph=True, backend="aot_eager")
    expected = bias_gelu(*inputs).sin()
    assert_close(compiled(*inputs), expected)
    ours = torch.autograd.grad(compiled(*inputs).sum(), inputs)
    for a, b in zip(ours, torch.autograd.grad(expected.sum(), inputs), strict=True):
        assert_close(a, b)


def test_strided_inputs():
    x, bias = make_inputs((2, 1, 3, 21))
    x = x.mT.contiguous().mT
    assert_close(bias_gelu(x, bias), bias_gelu_ref(x, bias))


@pytest.mark.parametrize(
    ("x", "bias", "message"),
    [
        (torch.ones(3, 4), torch.ones(1, 4), r"x must have shape \[T, N, features\], got \[3, 4\]"),
        (torch.ones(2, 3, 4), torch.ones(4), r"bias must have shape \[1 or 2, 4\], got \[4\]"),
        (torch.ones(2, 3, 4), torch.ones(3, 4), r"bias must have shape \[1 or 2, 4\]"),
        (torch.ones(2, 3, 4), torch.ones(1, 5), r"bias must have shape \[1 or 2, 4\]"),
        (torch.ones(2, 3, 4), torch.ones(1, 4).double(), "bias must have the dtype of x"),
        (torch.ones(2, 3, 4).int(), torch.ones(1, 4).int(), "or bfloat16, got int32"),
    ],
)
def test_rejects(x, bias, message):
    with pytest.raises(RuntimeError, match=message):
        bias_gelu(x, bias)
