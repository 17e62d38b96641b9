"""One engine call under pytest-benchmark, checked and timed beside dense models by `lets.bench`.

`python -m pytest bench/bench_engine.py`; the whole grid: `python -m bench.engine`.
"""

import dataclasses

import pytest
from lets.bench.ours import Ours
from lets.bench.problem import random_batch
from lets.bench.run import run_bench, threads
from lets.bench.settings import BenchSettings

POINTS = [("bert-base", "fig2b", 9, 1, 128), ("minilm-l6", "random", 3, 1, 128)]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: "-".join(map(str, point)))
@pytest.mark.parametrize("baseline", ["eager", "ort-fp32", "ort-int8"])
def bench_engine(benchmark, point, baseline):
    encoder, policy, tasks, batch, seq_len = point
    settings = BenchSettings(
        encoder, (policy,), (tasks,), (batch,), (seq_len,), (baseline,),
        rounds=1 if benchmark.disabled else 15,
    )  # fmt: skip
    outcome = run_bench(settings)
    if outcome.skipped:
        pytest.skip(outcome.skipped[0]["reason"])
    (row,) = outcome.rows
    assert row.error is None
    benchmark.extra_info.update(dataclasses.asdict(row))
    with threads(settings.threads):
        ours = Ours(settings)
        call = ours.call(policy, tasks, random_batch(ours.encoder, batch, seq_len))
        benchmark.pedantic(call, rounds=5, warmup_rounds=1)
