"""A timeline of one engine call, for chrome://tracing and Perfetto."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def write_trace(call: Callable[[], object], path: Path) -> None:
    """Run `call` warm and write what happened in it, op by op and thread by thread."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    for _ in range(2):
        call()
    path.parent.mkdir(parents=True, exist_ok=True)
    with profile(activities=activities) as session:
        call()
    session.export_chrome_trace(str(path))
