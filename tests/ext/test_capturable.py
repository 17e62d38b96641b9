"""What a CUDA graph needs of forward and backward, shown without a GPU: no values on the host, no
floating-point atomics, no copy to another device; the shapes follow from shapes alone."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lets_ext import Delta
from tests.ext.test_devices import OPS, moved

# They wait for the device, or add in an order that depends on timing.
REFUSED = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "bincount", "histc",
    "scatter_add", "scatter_add_", "scatter_reduce", "index_add", "index_add_", "index_put",
    "index_put_", "_index_put_impl_", "put_", "cumsum", "kthvalue", "embedding_dense_backward",
}  # fmt: skip


class Recorder(TorchDispatchMode):
    """Names of the ops that run, and devices that tensors are copied to."""

    def __init__(self):
        super().__init__()
        self.names, self.devices = [], set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name.rpartition("::")[2])
        self.devices.add((kwargs or {}).get("device"))
        return function(*args, **(kwargs or {}))


FROZEN = {"out_weight", "up_weight", "down_weight", "key_weight", "value_weight"}


def with_gradients(inputs):
    """Leaves for all that can have a gradient, and these leaves."""
    result = dict(inputs)
    for name, value in inputs.items():
        if isinstance(value, Delta):
            result[name] = value._replace(values=value.values.clone().requires_grad_())
        elif name not in FROZEN and isinstance(value, torch.Tensor) and value.is_floating_point():
            result[name] = value.clone().requires_grad_()
    tensors = (v.values if isinstance(v, Delta) else v for v in result.values())
    return result, [t for t in tensors if isinstance(t, torch.Tensor) and t.requires_grad]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_nothing_waits_and_nothing_depends_on_timing(op):
    inputs, leaves = with_gradients(OPS[op]())
    with Recorder() as recorder:
        out = op(**inputs)
        torch.autograd.grad(out, leaves, torch.ones_like(out))
    assert not REFUSED & set(recorder.names)
    assert recorder.devices <= {None, torch.device("cpu")}
    assert any(name.endswith(op.__name__.replace("qkv", "linear")) for name in recorder.names)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_gradients_on_meta_tensors_have_the_shapes_of_real_ones(op):
    results = []
    for device in ("cpu", "meta"):
        inputs = {n: v if isinstance(v, int) else moved(v, device) for n, v in OPS[op]().items()}
        inputs, leaves = with_gradients(inputs)
        out = op(**inputs)
        gradients = torch.autograd.grad(out, leaves, torch.ones_like(out))
        results.append([(g.shape, g.dtype) for g in gradients])
        assert all(g.device.type == device for g in gradients)
    assert results[0] == results[1]
