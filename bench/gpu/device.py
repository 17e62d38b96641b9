"""The GPU that is measured: what it is, how fast it copies, how long a call takes on it."""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch


def require_gpu() -> torch.device:
    """The device to measure; ends the program with a message where something is missing."""
    problem = None
    if torch.version.cuda is None:
        problem = f"a torch with CUDA is needed, found {torch.__version__}"
    elif not torch.cuda.is_available():
        problem = "a CUDA device is needed, found none"
    elif shutil.which("nvcc") is None:
        problem = "nvcc is needed to build the kernels; put it on PATH"
    if problem:
        print(f"bench/gpu: {problem}. Nothing was measured.", file=sys.stderr)
        raise SystemExit(2)
    return torch.device("cuda", torch.cuda.current_device())


def require_device(dry_run: bool) -> torch.device:
    """The GPU, or the CPU where a dry run shows that everything but the device works."""
    return torch.device("cpu") if dry_run else require_gpu()


def arch() -> str:
    """Architecture in CMake's notation; Hopper with its own instructions."""
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}" + ("a" if (major, minor) == (9, 0) else "")


def slug() -> str:
    """Name of the GPU as a folder's name."""
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")


def describe(device: torch.device) -> dict[str, str]:
    """What results depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "dry run on the CPU"
    return {"gpu": name, "torch": torch.__version__, "cuda": str(torch.version.cuda)}


def check_stream(device: torch.device) -> str:
    """Raise unless ops go to the stream that is current in torch, which keeps them waiting here."""
    from lets_ext import bias_gelu, bias_gelu_ref

    x, bias = torch.zeros(1, 64, 1024, device=device), torch.zeros(1, 1024, device=device)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.inference_mode(), torch.cuda.stream(stream):
        torch.cuda._sleep(200_000_000)
        x.fill_(1.0)
        out = bias_gelu(x, bias)
    torch.cuda.synchronize()
    torch.testing.assert_close(out, bias_gelu_ref(x, bias))
    return "aoti_torch_get_current_cuda_stream resolves; ops run on the current stream"


def l2_bytes(device: torch.device) -> int:
    """Size of the last cache, which buffers are rotated past."""
    if device.type == "cpu":
        return 0
    return torch.cuda.get_device_properties(device).L2_cache_size


def copies_past_l2(device: torch.device, bytes_per_call: int) -> int:
    """How many copies of the operands make every call find its own ones outside the cache."""
    return max(1, min(64, -(-3 * l2_bytes(device) // max(bytes_per_call, 1))))


def time_calls(calls: Sequence[Callable[[], object]], rounds: int = 15) -> tuple[float, str]:
    """Median microseconds of one call, and how it was timed ("graph" or "eager").

    The calls go one after the other into a CUDA graph, so that launches cost what they cost in an
    engine; what cannot be captured is launched eagerly between two events.
    """
    for call in calls[:2]:
        call()
    if not torch.cuda.is_available():
        started = time.perf_counter()
        _eager(calls)()
        return 1e6 * (time.perf_counter() - started) / len(calls), "dry run"
    torch.cuda.synchronize()
    try:
        run, how = _captured(calls), "graph"
    except RuntimeError:
        torch.cuda.synchronize()
        run, how = _eager(calls), "eager"
    for _ in range(3):
        run()
    times = []
    for _ in range(rounds):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / len(calls))
    return statistics.median(times), how


def _captured(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph.replay


def _eager(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    def run() -> None:
        for call in calls:
            call()

    return run


def copy_bandwidth(device: torch.device, size: int = 1 << 30) -> float:
    """Bytes per microsecond that a large copy reads and writes."""
    size = size if device.type == "cuda" else 1 << 20
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / time_calls([lambda: target.copy_(source)])[0]


def count_launches(call: Callable[[], object]) -> int:
    """Kernels that one call launches."""
    if not torch.cuda.is_available():
        return 0
    from torch.profiler import ProfilerActivity, profile

    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as session:
        call()
        torch.cuda.synchronize()
    events = (e for e in session.events() if e.device_type == torch.autograd.DeviceType.CUDA)
    return sum(1 for e in events if not e.name.startswith(("Memcpy", "Memset")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", action="store_true")
    parser.add_argument("--slug", action="store_true")
    parser.add_argument("--stream", action="store_true", help="check that ops find torch's stream")
    options = parser.parse_args()
    gpu = require_gpu()
    print(arch() if options.arch else slug() if options.slug else check_stream(gpu))
