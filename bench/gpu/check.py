"""Results of every op on the device against float64; ends with `N passed, N failed`.

Every dtype may be twice as far from float64 as torch is in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from bench.gpu import problems
from bench.gpu.device import require_gpu
from bench.gpu.problems import Maker, Problem
from lets_ext import Delta, delta_linear, delta_linear_ref

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def cases(make: Maker, small: bool) -> Iterator[Problem]:
    """Problems of odd and of real sizes."""
    for density in (0.0, 0.05, 1.0):
        yield problems.delta_qkv(make, 3, 2, 7, 40, density)
    yield problems.delta_qkv(make, 2, 1, 3, 33, 0.1)
    yield problems.cls_attention(make, 3, 2, 11, 64, 4)
    yield problems.cls_attention(make, 1, 2, 5, 33, 3)
    yield problems.cls_tail(make, 2, 3, 40, 72)
    yield problems.cls_tail(make, 1, 1, 33, 21)
    yield problems.add_layer_norm(make, 2, 5, 72)
    yield problems.bias_gelu(make, 3, 2, 33)
    if small:
        return
    yield problems.delta_qkv(make, 8, 4, 128, 768, 0.005)
    yield problems.cls_attention(make, 8, 32, 128, 768, 12)
    yield problems.cls_attention(make, 1, 1, 512, 1024, 16)
    for rows in (1, 8, 16, 50):
        yield problems.cls_tail(make, 1, rows, 768, 3072)
    yield problems.cls_tail(make, 8, 2, 1024, 4096)
    yield problems.add_layer_norm(make, 8, 512, 768)
    yield problems.bias_gelu(make, 8, 512, 3072)


def on_other_stream(run: Callable[[], Tensor]) -> Tensor:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        out = run()
    torch.cuda.current_stream().wait_stream(stream)
    return out


def in_graph(run: Callable[[], Tensor]) -> Tensor:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()
    out.fill_(float("nan"))
    graph.replay()
    return out


def verdict(problem: Problem) -> tuple[bool, float, str]:
    """Whether the three ways of running agree with float64, the relative error, and what failed."""
    with torch.inference_mode():
        exact, low, ours = problem.exact(), problem.low(), problem.run()
        scale = exact.abs().max().clamp(min=1e-30)
        error, theirs = (((t.double() - exact).abs().max() / scale) for t in (ours, low))
        allowed = 2 * theirs + (1e-5 if problem.dtype == torch.float32 else 1e-6)
        wrong = [] if error <= allowed else [f"error {error:.1e}, torch {theirs:.1e}"]
        for name, way in (("other stream", on_other_stream), ("CUDA graph", in_graph)):
            again = way(problem.run)
            torch.cuda.synchronize()
            if not torch.equal(again, ours):
                wrong.append(f"{name} differs")
    return not wrong, float(error), ", ".join(wrong)


def gradients(make: Maker) -> tuple[bool, float, str]:
    """Gradients of delta_linear, twice: they are right and equal to the last bit."""
    delta = make.delta(2, 65, 40, 0.1)
    base, x = make.tensor(1, 300, 65), make.tensor(2, 300, 40)
    bias, grad = make.tensor(2, 65), make.tensor(2, 300, 65)

    def backward(function, dtype):
        leaves = [t.to(dtype).requires_grad_() for t in (base, x, delta.values, bias)]
        out = function(leaves[0], leaves[1], Delta(delta.layout, leaves[2]), leaves[3])
        return torch.autograd.grad(out, leaves, grad.to(dtype))

    exact, low = (backward(delta_linear_ref, d) for d in (torch.float64, make.dtype))
    first, second = (backward(delta_linear, make.dtype) for _ in range(2))
    worst, wrong = 0.0, []
    for name, e, t, a, b in zip(("base", "x", "values", "bias"), exact, low, first, second):
        scale = e.abs().max()
        error, theirs = ((g.double() - e).abs().max() / scale for g in (a, t))
        worst = max(worst, float(error))
        if error > 2 * theirs + 1e-5:
            wrong.append(f"gradient of {name}: {error:.1e}, torch {theirs:.1e}")
        if not torch.equal(a, b):
            wrong.append(f"gradient of {name} is not deterministic")
    return not wrong, worst, ", ".join(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small shapes alone")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    device = require_gpu()
    rows, failed = [], 0
    for dtype in DTYPES:
        make = Maker(device, dtype)
        checks = [(p.op, p.shape, verdict(p)) for p in cases(make, options.small)]
        checks.append(("delta_linear gradients", {}, gradients(make)))
        for op, shape, (passed, error, why) in checks:
            failed += not passed
            name = str(dtype).removeprefix("torch.")
            rows.append({"op": op, "shape": shape, "dtype": name, "max_rel_err": error})
            if not passed:
                print(f"FAIL {op} {shape} {name}: {why}")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
