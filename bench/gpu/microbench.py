"""Time every op on the device beside its peers, in the same run; writes JSON rows and a table.

Each row: op, shape, dtype, us, bytes, percent_of_copy, peers {name: us}, max_rel_err, launches.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from bench.gpu import device, problems
from bench.gpu.problems import Maker, Problem

Make = Callable[[Maker], Problem]
HALF, FULL = torch.bfloat16, torch.float32


def cases() -> list[tuple[torch.dtype, Make]]:
    """What is measured, the most important first: the time may run out."""

    def qkv(dtype, tasks, batch):
        return dtype, partial(
            problems.delta_qkv, tasks=tasks, batch=batch, length=128, hidden=768, density=0.005
        )

    def tail(dtype, tasks, rows, hidden=768):
        return dtype, partial(
            problems.cls_tail, tasks=tasks, rows=rows, hidden=hidden, inner=4 * hidden
        )

    def attention(dtype, tasks, batch):
        return dtype, partial(
            problems.cls_attention, tasks=tasks, batch=batch, length=128, hidden=768, heads=12
        )

    rows = [qkv(HALF, 8, 32), tail(HALF, 1, 1), attention(HALF, 8, 32)]
    rows += [tail(HALF, 1, m) for m in (4, 8, 16)] + [tail(HALF, 8, 2), tail(HALF, 8, 32)]
    rows += [qkv(HALF, 1, b) for b in (1, 8, 32)] + [qkv(FULL, 1, 32), qkv(FULL, 8, 32)]
    rows += [attention(HALF, 1, 32), attention(HALF, 1, 1), attention(FULL, 8, 32)]
    rows += [tail(FULL, 1, 1), tail(HALF, 1, 1, 1024), tail(FULL, 1, 8, 1024)]
    rows.append((HALF, partial(problems.add_layer_norm, tasks=8, tokens=4096, hidden=768)))
    rows.append((HALF, partial(problems.bias_gelu, tasks=8, tokens=4096, features=3072)))
    return rows


def measure(
    dtype: torch.dtype, make: Make, gpu: torch.device, bandwidth: float, seen: set[str]
) -> dict:
    """One row; the first one of an op has torch.compile among its peers, which takes a while."""
    problem = make(Maker(gpu, dtype))
    compile_mode = None
    if problem.op not in seen:
        compile_mode = "max-autotune-no-cudagraphs" if problem.op == "cls_tail" else "default"
    seen.add(problem.op)
    copies = device.copies_past_l2(gpu, problem.bytes)
    rotated = [problem, *(make(Maker(gpu, dtype, 100 * i)) for i in range(1, copies))]
    microseconds, how = device.time_calls([p.run for p in rotated])
    peers: dict[str, float | str] = {}
    for name in problem.peers:
        try:
            peers[name] = device.time_calls([p.peers[name] for p in rotated])[0]
        except (RuntimeError, NotImplementedError) as error:
            peers[name] = f"fails: {str(error).splitlines()[0][:100]}"
    if compile_mode:
        compiled = torch.compile(problem.reference, mode=compile_mode)
        try:
            calls = [lambda: compiled(*problem.operands)]
            peers[f"torch.compile {compile_mode}"] = device.time_calls(calls)[0]
        except Exception as error:  # a compiler may fail in any way; ours is measured all the same
            peers[f"torch.compile {compile_mode}"] = f"fails: {type(error).__name__}"
    exact = problem.exact()
    error = (problem.run().double() - exact).abs().max() / exact.abs().max()
    return {
        "op": problem.op,
        "shape": problem.shape,
        "dtype": str(dtype).removeprefix("torch."),
        "us": microseconds,
        "timing": how,
        "bytes": problem.bytes,
        "percent_of_copy": 100 * problem.bytes / microseconds / bandwidth,
        "peers": peers,
        "max_rel_err": float(error),
        "launches": device.count_launches(problem.run),
        "buffers": copies,
    }


def table(rows: list[dict]) -> str:
    """The rows in Markdown; ratios say how many times our time a peer takes."""
    head = ["op", "shape", "dtype", "µs", "% of copy", "launches", "peers"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        shape = " ".join(f"{k}={v}" for k, v in row["shape"].items())
        peers = ", ".join(
            f"{name} {value}" if isinstance(value, str) else f"{name} {value / row['us']:.2f}×"
            for name, value in row["peers"].items()
        )
        lines.append(
            f"| {row['op']} | {shape} | {row['dtype']} | {row['us']:.1f} | "
            f"{row['percent_of_copy']:.0f} | {row['launches']} | {peers} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--seconds", type=float, default=480, help="start nothing new after these")
    options = parser.parse_args()
    gpu = device.require_gpu()
    started, left_out = time.monotonic(), 0
    rows: list[dict] = []
    seen: set[str] = set()
    bandwidth = device.copy_bandwidth(gpu)
    print(f"{torch.cuda.get_device_name(gpu)}: copies {bandwidth / 1e6:.2f} TB/s", flush=True)
    with torch.inference_mode():
        for dtype, make in cases():
            if time.monotonic() - started > options.seconds - 30:
                left_out += 1
                continue
            rows.append(measure(dtype, make, gpu, bandwidth, seen))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    result = {
        "gpu": torch.cuda.get_device_name(gpu),
        "torch": torch.__version__,
        "copy_bytes_per_us": bandwidth,
        "left_out": left_out,
        "rows": rows,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "ops.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "ops.md").write_text(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
