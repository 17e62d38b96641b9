"""Benchmarks of the ops: ours against the best torch expressions, interleaved, medians and ratios.

`python -m pytest bench --benchmark-json=rows.json`; each entry's extra_info is one JSON row
{op, shape, ours, peers, ratios} in milliseconds. `--benchmark-disable` runs everything once.
"""

import pytest
import torch
from lets.bench.measure import interleaved


@pytest.fixture
def compare(benchmark):
    """compare(op, shape, ours, {name: peer}): times all of them and records one row."""

    def run(op, shape, ours, peers, rounds=15, repeats=5):
        with torch.inference_mode():
            if benchmark.disabled:
                rounds, repeats = 1, 1
            timings = interleaved({None: ours, **peers}, rounds, warmup=0, repeats=repeats, lead=1)
            mine, *others = (1e3 * timing.median for timing in timings.values())
            row = {"op": op, "shape": shape, "threads": torch.get_num_threads(), "ours": mine}
            row["peers"] = dict(zip(peers, others, strict=True))
            row["ratios"] = {name: other / mine for name, other in row["peers"].items()}
            benchmark.extra_info.update(row)
            benchmark.pedantic(ours, rounds=max(1, rounds // 3), iterations=repeats)
        return row

    return run
