import os
import subprocess
import sys
import threading

import pytest
import torch

from lets_ext import Delta, delta_qkv, delta_qkv_ref, env
from tests.factories import make_delta, make_tensor
from tests.tolerances import assert_close, assert_no_worse

# num_tasks, base tasks, x tasks, rows, hidden: the last one is large enough for streamed stores
SHAPES = [(1, 1, 1, 1, 16), (1, 1, 1, 37, 13), (4, 1, 1, 66, 24), (2, 2, 2, 19, 7), (3, 1, 3, 0, 5)]
LARGE = (1, 1, 1, 1001, 384)


def make_inputs(shape=SHAPES[2], density=0.1, dtype=torch.float32, grad=False):
    num_tasks, base_tasks, x_tasks, rows, hidden = shape
    return (
        make_tensor(base_tasks, rows, 3 * hidden, dtype=dtype, seed=2, grad=grad),
        make_tensor(x_tasks, rows, hidden, dtype=dtype, seed=3, grad=grad),
        make_delta(num_tasks, 3 * hidden, hidden, density, dtype, grad=grad),
        make_tensor(num_tasks, 3 * hidden, dtype=dtype, seed=4, grad=grad),
    )


@pytest.fixture(params=env.ISAS)
def isa(request):
    before = env.selected_isa()
    if request.param not in env.supported_isas():
        pytest.skip(f"no {request.param} here")
    yield env.select_isa(request.param)
    env.select_isa(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(isa, shape, density, dtype):
    inputs = make_inputs(shape, density, dtype)
    assert_close(delta_qkv(*inputs), delta_qkv_ref(*inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_matches_reference_when_large(isa, dtype):
    inputs = make_inputs(LARGE, 0.005, dtype)
    assert_close(delta_qkv(*inputs), delta_qkv_ref(*inputs))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_half_precision_is_no_worse(isa, shape, dtype):
    base, x, delta, bias = inputs = make_inputs(shape, 0.2, dtype)
    wide = (base.double(), x.double(), Delta(delta.layout, delta.values.double()), bias.double())
    assert_no_worse(delta_qkv(*inputs), delta_qkv_ref(*inputs), delta_qkv_ref(*wide))


def test_half_precision_keeps_what_is_not_finite(isa):
    special = torch.tensor([float("inf"), -float("inf"), float("nan"), 65504.0, 6e-8, -0.0, 1e-5])
    for dtype in (torch.float16, torch.bfloat16):
        base = special.to(dtype).repeat(6)[None, None, :42]
        delta = make_delta(1, 42, 14, 0.0, dtype)
        out = delta_qkv(base, make_tensor(1, 1, 14, dtype=dtype), delta)
        torch.testing.assert_close(out, base, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3, 4), (2, 1, 1, 5, 3), (2, 2, 2, 17, 2)])
def test_gradients(isa, shape):
    base, x, delta, bias = make_inputs(shape, 0.4, torch.float64, grad=True)

    def op(base, x, values, bias):
        return delta_qkv(base, x, Delta(delta.layout, values), bias)

    assert torch.autograd.gradcheck(op, (base, x, delta.values, bias))


def test_registration():
    base, x, delta, bias = make_inputs((2, 1, 1, 5, 4), dtype=torch.float64, grad=True)
    layout = delta.layout
    indices = (layout.crow_indices, layout.col_indices, layout.ccol_indices, layout.row_indices)
    arguments = (base, x, delta.values, *indices, layout.permutation, 2, bias)
    torch.library.opcheck(torch.ops.lets_ext.delta_linear.default, arguments)


def test_compiles_to_one_graph():
    inputs = make_inputs(grad=True)
    compiled = torch.compile(delta_qkv, fullgraph=True)
    assert_close(compiled(*inputs), delta_qkv(*inputs))


def test_a_group_equals_its_tasks_one_by_one():
    base, x, delta, bias = make_inputs((3, 3, 3, 20, 8))
    whole = delta_qkv(base, x, delta, bias)
    dense = delta.to_dense()
    for task in range(3):
        one = slice(task, task + 1)
        alone = base[one] + x[one] @ dense[one].mT + bias[one, None]
        assert_close(whole[one], alone)


def test_result_does_not_depend_on_threads():
    inputs = make_inputs(LARGE, 0.01, grad=True)
    leaves, results = (inputs[1], inputs[2].values), []
    before = torch.get_num_threads()
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        out = delta_qkv(*inputs)
        results.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


TWO_THREADS = """
import os, time, torch
from lets_ext import delta_qkv
from tests.factories import make_delta, make_tensor

def cpu_of_threads():
    times = {}
    for thread in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{thread}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        times[thread] = int(fields[11]) + int(fields[12])
    return times

torch.set_num_threads(2)
inputs = (make_tensor(1, 512, 1536), make_tensor(1, 512, 512), make_delta(1, 1536, 512, 0.05))
before, end = cpu_of_threads(), time.monotonic() + 1.0
with torch.inference_mode():
    while time.monotonic() < end:
        delta_qkv(*inputs)
after = cpu_of_threads()
busy = [t for t in after if after[t] - before.get(t, 0) >= 10]
print(len(busy), len(after))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="reads /proc")
def test_uses_two_threads_of_one_pool():
    result = subprocess.run(
        [sys.executable, "-c", TWO_THREADS],
        env={**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive",
             "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    busy, _ = map(int, result.stdout.split())
    assert busy == 2, "delta_qkv at 2 threads must keep exactly two threads busy"
    with open("/proc/self/maps") as maps:
        pools = {line.split()[-1] for line in maps if "libgomp" in line or "libomp" in line}
    torch_lib = os.path.dirname(torch.__file__)
    assert not any("lets_ext" in pool for pool in pools)
    assert sum(torch_lib in os.path.realpath(pool) for pool in pools) <= 1


def test_may_be_called_from_several_threads():
    inputs = make_inputs()
    expected, results = delta_qkv(*inputs), []
    workers = [
        threading.Thread(target=lambda: results.append(delta_qkv(*inputs))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 4
    assert all(torch.equal(result, expected) for result in results)


def test_rejects_other_shapes():
    delta = make_delta(1, 20, 7)
    with pytest.raises(ValueError, match=r"delta must have shape \[3H, H\], got \[20, 7\]"):
        delta_qkv(make_tensor(1, 5, 20), make_tensor(1, 5, 7), delta)
