"""A machine's rates, measured in a moment and remembered in the user's cache folder."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lets import products
from lets.cost import op_cost
from lets.errors import LetsError
from lets.files import write_json
from lets.plan.timing import MachineRates

_ROWS = (1, 16, 64, 128, 512, 2048)
_SECONDS = 0.03  # per size, at least two runs
_COPY_BYTES = 1 << 26
# A step in smallest ops: on a CPU about eight larger ones and their Python, in cold caches (140 µs
# for a step of nine tasks on BERT-base, where the smallest op takes 1).
_STEP = {"cpu": 100, "cuda": 2}
_VERSION = 2  # of what is measured; rates of another one are measured again


def cache_folder() -> Path:
    """LETS_CACHE_DIR, or `lets` in the user's cache folder."""
    own = os.environ.get("LETS_CACHE_DIR")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lets"


@dataclass(frozen=True)
class Sizes:
    """What rates depend on beside the machine: the widest weight of a layer, and its precision."""

    hidden: int
    intermediate: int
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def key(self) -> str:
        """The machine and what was measured on it."""
        cuda = self.device.type == "cuda"
        where = torch.cuda.get_device_name(self.device) if cuda else _cpu()
        threads, sizes = torch.get_num_threads(), f"{self.hidden}x{self.intermediate}"
        if products.can_pack(self.dtype, self.device):
            sizes += " packed"
        parts = (_VERSION, where, f"{threads} threads", f"torch {torch.__version__}", self.dtype)
        return " | ".join(map(str, (*parts, sizes)))


def machine_rates(sizes: Sizes, again: bool = False) -> MachineRates:
    """Rates with the threads that torch uses now; remembered, or measured in half a second.

    Args:
        again: Measure in any case, e.g. where the first time the machine was busy.
    """
    file, key = cache_folder() / "calibration.json", sizes.key()
    known = _read(file)
    try:
        if again:
            raise KeyError(key)
        return MachineRates.from_dict(known[key])
    except (KeyError, TypeError, ValueError):
        rates = measure(sizes)
        with contextlib.suppress(LetsError):  # without a cache folder it is measured every time
            write_json(file, {**known, key: rates.to_dict()})
        return rates


@torch.inference_mode()
def measure(sizes: Sizes) -> MachineRates:
    """Measure now: products with the widest weight of a layer, a copy, and the smallest op."""
    one = torch.ones(1, 1, 1, dtype=sizes.dtype, device=sizes.device)
    weight = products.pack(one[0].repeat(sizes.intermediate, sizes.hidden))
    gemm: list[tuple[int, float]] = []
    fastest = 0.0
    for rows in _ROWS:
        x = one.new_ones(rows, sizes.hidden)
        seconds = _best(functools.partial(products.linear, x, weight))
        product = op_cost(
            "linear", tokens=rows, in_features=sizes.hidden, out_features=sizes.intermediate
        )
        # More rows are never slower for their number: what says so was disturbed.
        fastest = max(fastest, product.flops / seconds)
        gemm.append((rows, fastest))
    source = torch.empty(_COPY_BYTES, dtype=torch.uint8, device=one.device).fill_(1)
    target = torch.empty_like(source)
    copied = _best(lambda: target.copy_(source))
    step = _STEP[one.device.type] * _best(lambda: one * one)
    return MachineRates(tuple(gemm), 2 * _COPY_BYTES / copied, step)


def _best(run: Callable[[], Tensor]) -> float:
    """Seconds of the fastest run: what the machine can do, whatever else it does."""
    run()
    best, spent, runs = float("inf"), 0.0, 0
    while runs < 2 or spent < _SECONDS:
        begin = time.perf_counter()
        out = run()
        if out.is_cuda:
            torch.cuda.synchronize(out.device)
        elapsed = time.perf_counter() - begin
        best, spent, runs = min(best, elapsed), spent + elapsed, runs + 1
    return best


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _read(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
