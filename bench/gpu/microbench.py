"""Time every op on the device beside its peers, in the same run; writes JSON rows and a table.

Each row: op, shape, dtype, us, bytes, percent_of_copy, peers {name: us}, max_rel_err, launches.
Files are written after every row, so that whoever stops this keeps what was measured.
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
from bench.gpu.problems import Maker, Problem, joined

Make = Callable[[Maker], Problem]
HALF, FULL = torch.bfloat16, torch.float32


def cases(dry_run: bool = False) -> list[tuple[torch.dtype, Make]]:
    """What is measured, the most important first: the time may run out."""
    hidden, length = (32, 8) if dry_run else (768, 128)

    def qkv(dtype, tasks, batch):
        return dtype, partial(
            problems.delta_qkv, tasks=tasks, batch=batch, length=length, hidden=hidden,
            density=0.005,
        )  # fmt: skip

    def tail(dtype, tasks, rows, hidden=hidden):
        sizes = {"hidden": hidden, "inner": 4 * hidden}
        return dtype, partial(problems.cls_tail, tasks=tasks, rows=rows, **sizes)

    def layers(dtype, count, rows):
        sizes = {"hidden": hidden, "inner": 4 * hidden}
        return dtype, partial(problems.cls_tail_layers, layers=count, rows=rows, **sizes)

    def attention(dtype, tasks, batch):
        return dtype, partial(
            problems.cls_attention, tasks=tasks, batch=batch, length=length, hidden=hidden,
            heads=hidden // 8 if dry_run else 12,
        )  # fmt: skip

    if dry_run:
        return [qkv(HALF, 2, 2), tail(HALF, 1, 1), layers(HALF, 3, 1), attention(FULL, 2, 2)]
    rows = [qkv(HALF, 8, 32), tail(HALF, 1, 1), layers(HALF, 12, 1), attention(HALF, 8, 32)]
    rows += [tail(HALF, 1, m) for m in (4, 8, 16)] + [layers(HALF, 12, m) for m in (8, 16)]
    rows += [tail(HALF, 8, 2), tail(HALF, 8, 32)]
    rows += [qkv(HALF, 1, b) for b in (1, 8, 32)] + [qkv(FULL, 1, 32), qkv(FULL, 8, 32)]
    rows += [attention(HALF, 1, 32), attention(HALF, 1, 1), attention(FULL, 8, 32)]
    rows += [tail(FULL, 1, 1), tail(HALF, 1, 1, 1024), tail(FULL, 1, 8, 1024)]
    rows.append((HALF, partial(problems.add_layer_norm, tasks=8, tokens=4096, hidden=768)))
    rows.append((HALF, partial(problems.bias_gelu, tasks=8, tokens=4096, features=3072)))
    return rows


def measure(dtype: torch.dtype, make: Make, gpu: torch.device, bandwidth: float) -> dict:
    """One row."""
    problem = make(Maker(gpu, dtype))
    copies = device.copies_past_l2(gpu, problem.bytes)
    rotated = [problem, *(make(Maker(gpu, dtype, 100 * i)) for i in range(1, copies))]
    microseconds, how = device.time_calls([p.run for p in rotated])
    peers: dict[str, float | str] = {}
    for name in problem.peers:
        try:
            peers[name] = device.time_calls([p.peers[name] for p in rotated])[0]
        except Exception as error:  # a peer may lack the shape or the dtype, or memory
            peers[name] = f"fails: {(str(error) or type(error).__name__).splitlines()[0][:100]}"
    exact = problem.exact()
    error = (joined(problem.run()).double() - exact).abs().max() / exact.abs().max()
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


def add_compiled_peer(row: dict, dtype: torch.dtype, make: Make, gpu: torch.device) -> None:
    """Time torch.compile of the reference; it takes long, so all else is measured before."""
    problem = make(Maker(gpu, dtype))
    mode = "max-autotune-no-cudagraphs" if problem.op.startswith("cls_tail") else "default"
    try:
        compiled = torch.compile(problem.reference, mode=mode)
        calls = [lambda: compiled(*problem.operands)]
        row["peers"][f"torch.compile {mode}"] = device.time_calls(calls)[0]
    except Exception as error:  # a compiler may fail in any way
        row["peers"][f"torch.compile {mode}"] = f"fails: {type(error).__name__}"


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
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, small shapes")
    options = parser.parse_args()
    gpu = device.require_device(options.dry_run)
    deadline = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    bandwidth = device.copy_bandwidth(gpu)
    result: dict = device.describe(gpu) | {
        "copy_bytes_per_us": bandwidth,
        "left_out": 0,
        "rows": [],
    }
    print(f"{result['gpu']}: copies {bandwidth / 1e6:.2f} TB/s", flush=True)

    def write() -> None:
        (options.out / "ops.json").write_text(json.dumps(result, indent=1) + "\n")
        (options.out / "ops.md").write_text(table(result["rows"]))

    measured: dict[str, tuple[dict, torch.dtype, Make]] = {}  # the first row of an op
    with torch.inference_mode():
        for dtype, make in cases(options.dry_run):
            if time.monotonic() > deadline - 15:
                result["left_out"] += 1
                continue
            try:
                row = measure(dtype, make, gpu, bandwidth)
            except Exception as error:  # one row less; the others are measured all the same
                print(f"FAIL {make}: {type(error).__name__}: {error}", flush=True)
                result["left_out"] += 1
                continue
            result["rows"].append(row)
            measured.setdefault(row["op"], (row, dtype, make))
            print(table([row]).splitlines()[-1], flush=True)
            write()
        for row, dtype, make in measured.values():
            if time.monotonic() > deadline - 60 and not options.dry_run:
                break
            if row["op"] != "cls_tail_layers" and not options.dry_run:
                add_compiled_peer(row, dtype, make, gpu)
                print(table([row]).splitlines()[-1], flush=True)
                write()
    write()
    return 0 if result["rows"] and not result["left_out"] else 1


if __name__ == "__main__":
    sys.exit(main())
