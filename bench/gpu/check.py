"""Results and gradients of every op on the device against float64; ends with `N passed, N failed`.

Every dtype may be twice as far from float64 as torch is in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.gpu import problems
from bench.gpu.device import require_device
from bench.gpu.problems import Maker, Problem, convert, joined
from lets_ext import Delta

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
Make = Callable[[Maker], Problem]


def cases(small: bool) -> Iterator[Make]:
    """Problems of odd and of real sizes."""
    p = problems
    for density in (0.0, 0.05, 1.0):
        yield partial(p.delta_qkv, tasks=3, batch=2, length=7, hidden=40, density=density)
    yield partial(p.delta_qkv, tasks=2, batch=1, length=3, hidden=33, density=0.1)
    yield partial(p.cls_attention, tasks=3, batch=2, length=11, hidden=64, heads=4)
    yield partial(p.cls_attention, tasks=1, batch=2, length=5, hidden=33, heads=3)
    yield partial(p.cls_tail, tasks=2, rows=3, hidden=40, inner=72)
    yield partial(p.cls_tail, tasks=1, rows=1, hidden=33, inner=21)
    yield partial(p.cls_tail_layers, layers=3, rows=2, hidden=40, inner=72)
    yield partial(p.add_layer_norm, tasks=2, tokens=5, hidden=72)
    yield partial(p.bias_gelu, tasks=3, tokens=2, features=33)
    if small:
        return
    yield partial(p.delta_qkv, tasks=8, batch=4, length=128, hidden=768, density=0.005)
    yield partial(p.cls_attention, tasks=8, batch=32, length=128, hidden=768, heads=12)
    yield partial(p.cls_attention, tasks=1, batch=1, length=512, hidden=1024, heads=16)
    for rows in (1, 8, 16, 50):
        yield partial(p.cls_tail, tasks=1, rows=rows, hidden=768, inner=3072)
    yield partial(p.cls_tail, tasks=8, rows=2, hidden=1024, inner=4096)
    yield partial(p.cls_tail_layers, layers=12, rows=1, hidden=768, inner=3072)
    yield partial(p.cls_tail_layers, layers=26, rows=1, hidden=64, inner=128)
    yield partial(p.add_layer_norm, tasks=8, tokens=512, hidden=768)
    yield partial(p.bias_gelu, tasks=8, tokens=512, features=3072)


def on_other_stream(run: Callable[[], Tensor | list[Tensor]]) -> Tensor:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        out = run()
    torch.cuda.current_stream().wait_stream(stream)
    return joined(out)


def in_graph(run: Callable[[], Tensor | list[Tensor]]) -> Tensor:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run()
    for tensor in [out] if isinstance(out, Tensor) else out:
        tensor.fill_(float("nan"))
    graph.replay()
    return joined(out)


def compare(
    name: str, ours: Tensor, low: Tensor, exact: Tensor, slack: float
) -> tuple[float, list[str]]:
    """Relative error of our result, and the complaint if it is more than twice torch's."""
    if exact.numel() == 0:
        return 0.0, []
    scale = exact.abs().max().clamp(min=1e-30)
    error, theirs = (float((t.double() - exact).abs().max() / scale) for t in (ours, low))
    good = error <= 2 * theirs + slack
    return error, [] if good else [f"{name} error {error:.1e}, torch {theirs:.1e}"]


def results(problem: Problem) -> tuple[float, list[str]]:
    """The ways of running agree with float64 and with each other."""
    with torch.inference_mode():
        ours = joined(problem.run())
        slack = 1e-5 if problem.dtype == torch.float32 else 1e-6
        error, wrong = compare("result", ours, problem.low(), problem.exact(), slack)
        if ours.is_cuda:
            for name, way in (("other stream", on_other_stream), ("CUDA graph", in_graph)):
                again = way(problem.run)
                torch.cuda.synchronize()
                if not torch.equal(again, ours):
                    wrong.append(f"{name} differs")
    return error, wrong


def _leaves(problem: Problem, dtype: torch.dtype) -> tuple[list, list[Tensor]]:
    """Operands that record gradients where they can, and the leaves among them."""
    operands, leaves = [], []
    for i, operand in enumerate(convert(problem.operands, dtype)):
        tensor = operand.values if isinstance(operand, Delta) else operand
        if i not in (problem.frozen or ()):
            tensor = tensor.detach().clone().requires_grad_()
            leaves.append(tensor)
        operands.append(Delta(operand.layout, tensor) if isinstance(operand, Delta) else tensor)
    return operands, leaves


def gradients(problem: Problem) -> tuple[float, list[str]]:
    """Gradients, twice: they are right and equal to the last bit."""

    def backward(function, dtype):
        operands, leaves = _leaves(problem, dtype)
        out = function(*operands)
        weight = torch.linspace(-1, 1, out.numel(), device=out.device).view(out.shape)
        return torch.autograd.grad(out, leaves, weight.to(dtype))

    exact, low = (backward(problem.reference, d) for d in (torch.float64, problem.dtype))
    first, second = (backward(problem.function, problem.dtype) for _ in range(2))
    worst, wrong = 0.0, []
    for i, (e, t, a, b) in enumerate(zip(exact, low, first, second, strict=True)):
        error, complaints = compare(f"gradient {i}", a, t, e, 2e-5)
        worst, wrong = max(worst, error), wrong + complaints
        if not torch.equal(a, b):
            wrong.append(f"gradient {i} is not deterministic")
    return worst, wrong


def check(make: Make, maker: Maker, with_gradients: bool) -> tuple[dict, list[str]]:
    """A row of the report and what is wrong; whatever happens, the next problem has its turn."""
    row: dict = {"dtype": str(maker.dtype).removeprefix("torch.")}
    wrong: list[str] = []
    try:
        problem = make(maker)
        row |= {"op": problem.op, "shape": problem.shape}
        row["max_rel_err"], wrong = results(problem)
        if with_gradients and problem.frozen is not None:
            row["max_rel_err_of_gradients"], more = gradients(problem)
            wrong += more
    except Exception as error:  # anything may happen on a device that has never run this
        row |= {"op": make.func.__name__, "shape": make.keywords}  # type: ignore[attr-defined]
        wrong.append(f"{type(error).__name__}: {error}")
    row["wrong"] = wrong
    return row, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="small shapes alone")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, small shapes")
    parser.add_argument("--out", type=Path, help="JSON file for the results, written as they come")
    options = parser.parse_args()
    device = require_device(options.dry_run)
    small = options.small or options.dry_run
    rows: list[dict] = []
    for dtype in DTYPES:
        for make in cases(small):
            # Gradients of real sizes in float64 would take what time there is.
            few = all(value < 100 for value in make.keywords.values())  # type: ignore[attr-defined]
            row, wrong = check(make, Maker(device, dtype), few)
            rows.append(row)
            if wrong:
                print(
                    f"FAIL {row['op']} {row['shape']} {row['dtype']}: {', '.join(wrong)}",
                    flush=True,
                )
            if options.out:
                options.out.write_text(json.dumps(rows, indent=1) + "\n")
    failed = sum(bool(row["wrong"]) for row in rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
