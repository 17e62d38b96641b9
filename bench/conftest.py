"""Benchmarks of the ops: ours against the best torch expressions, interleaved, medians and ratios.

`python -m pytest bench --benchmark-json=rows.json`; each entry's extra_info is one JSON row
{op, shape, ours, peers, ratios} in milliseconds. `--benchmark-disable` runs everything once.
"""

import statistics
import time

import pytest
import torch


def interleaved(functions, rounds, repeats):
    """Median milliseconds of each function; all see the same state of the machine."""
    times = [[] for _ in functions]
    for _ in range(rounds):
        for function, list_of_times in zip(functions, times, strict=True):
            function()
            start = time.perf_counter()
            for _ in range(repeats):
                function()
            list_of_times.append((time.perf_counter() - start) / repeats * 1e3)
    return [statistics.median(t) for t in times]


@pytest.fixture
def compare(benchmark):
    """compare(op, shape, ours, {name: peer}): times all of them and records one row."""

    def run(op, shape, ours, peers, rounds=15, repeats=5):
        with torch.inference_mode():
            if benchmark.disabled:
                rounds, repeats = 1, 1
            mine, *others = interleaved([ours, *peers.values()], rounds, repeats)
            row = {"op": op, "shape": shape, "threads": torch.get_num_threads(), "ours": mine}
            row["peers"] = dict(zip(peers, others, strict=True))
            row["ratios"] = {name: other / mine for name, other in row["peers"].items()}
            benchmark.extra_info.update(row)
            benchmark.pedantic(ours, rounds=max(1, rounds // 3), iterations=repeats)
        return row

    return run
