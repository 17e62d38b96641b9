import pytest
import torch
from lets.flops import flop_formulas
from torch.utils.flop_counter import FlopCounterMode

from lets_ext import Delta, DeltaLayout, cls_tail, cls_tail_layers, cls_tail_layers_ref
from tests.ext.test_cls_tail import make_inputs
from tests.tolerances import assert_close

OP = torch.ops.lets_ext.cls_tail_layers.default
EPS = 1e-5


def make_layers(dtype=torch.float32, grad=False):
    """Layers of one size with different tasks, rows and deltas; one has no rows."""
    shapes = [
        (1, 1, 1, 1, 12, 17),
        (3, 1, 3, 2, 12, 17),
        (2, 2, 2, 0, 12, 17),
        (2, 2, 1, 9, 12, 17),
    ]
    deltas = [("out", "up", "down"), ("up",), (), ("out", "down")]
    layers = []
    for shape, present in zip(shapes, deltas, strict=True):
        layer = make_inputs(shape, dtype=dtype, grad=grad, deltas=present)
        del layer["eps"]
        layers.append(layer)
    return layers


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_matches_reference(dtype):
    layers = make_layers(dtype)
    expected = cls_tail_layers_ref(layers, eps=EPS)
    for ours, theirs in zip(cls_tail_layers(layers, eps=EPS), expected, strict=True):
        assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_equals_one_layer_after_the_other(dtype):
    layers = make_layers(dtype)
    for layer, out in zip(layers, cls_tail_layers(layers, eps=EPS), strict=True):
        assert torch.equal(out, cls_tail(**layer, eps=EPS))


def test_registration():
    layers = make_layers()
    arguments = []
    with torch.no_grad():
        torch.library.opcheck(OP, _record(layers, arguments))


def _record(layers, arguments):
    """Arguments of the dispatcher op."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function is OP:
                arguments.extend(args)
            return function(*args, **(kwargs or {}))

    with Recorder():
        cls_tail_layers(layers, eps=EPS)
    return arguments


def test_compiles_to_one_graph():
    layers = make_layers()
    compiled = torch.compile(
        lambda: cls_tail_layers(layers, eps=EPS), fullgraph=True, backend="aot_eager"
    )
    for ours, theirs in zip(compiled(), cls_tail_layers(layers, eps=EPS), strict=True):
        assert_close(ours, theirs)


def test_is_counted():
    layers = make_layers()

    def flops(run):
        with FlopCounterMode(display=False, custom_mapping=flop_formulas()) as counter:
            run()
        return counter.get_total_flops()

    one_by_one = flops(lambda: [cls_tail(**layer) for layer in layers])
    assert flops(lambda: cls_tail_layers(layers)) == one_by_one > 0


def test_refuses_gradients():
    layers = make_layers(grad=True)
    with pytest.raises(ValueError, match="layer 0 must not require gradients; use cls_tail"):
        cls_tail_layers(layers)
    plain = make_layers()
    plain[1]["norm_bias"].requires_grad_()
    with pytest.raises(ValueError, match="layer 1 must not require gradients"):
        cls_tail_layers(plain)
    with torch.no_grad():
        assert len(cls_tail_layers(layers)) == len(layers)


def test_rejects():
    layers = make_layers()
    with pytest.raises(ValueError, match="layers must not be empty"):
        cls_tail_layers([])
    with pytest.raises(
        ValueError, match=r"layer 1 must have the arguments of cls_tail, see \['eps'"
    ):
        cls_tail_layers([layers[0], layers[1] | {"eps": 1.0}])
    missing = {name: value for name, value in layers[0].items() if name != "up_bias"}
    with pytest.raises(ValueError, match=r"layer 0 must have the arguments .*'up_bias'"):
        cls_tail_layers([missing])
    other = make_inputs((1, 1, 1, 1, 12, 19))
    del other["eps"]
    with pytest.raises(RuntimeError, match="one hidden and one inner size, got 12 and 19 beside"):
        cls_tail_layers([layers[0], other])
    with pytest.raises(RuntimeError, match="ctx of every layer must have the dtype of the first"):
        cls_tail_layers([layers[0], make_layers(torch.float64)[0]])
    bad = dict(layers[1])
    layout = bad["up_delta"].layout
    wrong = DeltaLayout.from_csr(
        layout.crow_indices[:18], layout.col_indices[: int(layout.crow_indices[17])], 12
    )
    bad["up_delta"] = Delta(wrong, bad["up_delta"].values[: wrong.nnz])
    with pytest.raises(ValueError, match=r"cls_tail_layers: up_delta must be 3 x \[17, 12\]"):
        cls_tail_layers([bad])
    with pytest.raises(
        RuntimeError, match="the lists must have 1, 1, 3, 7 and 9 tensors per layer"
    ):
        OP([layers[0]["ctx"]], [], [], [], [], EPS)
