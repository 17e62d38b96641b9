"""A call is split into layers, heads, copies and Python; its parts are within the whole."""

import pytest
from lets.bench.ours import Ours
from lets.bench.overhead import measure_overhead
from lets.bench.settings import BenchSettings


@pytest.mark.parametrize("mode", ["stacked", "serial"])
def test_parts_are_within_the_whole(tiny_folder, mode):
    ours = Ours(BenchSettings(tiny_folder, ("g-3",), (3,), seq_len=(8,), density=0.1, mode=mode))
    row = measure_overhead(ours, "g-3", 3, 2, 8, rounds=2)
    parts = (row.python_ms, row.copies_ms, row.heads_ms)
    assert min(row.python_ms, row.heads_ms) > 0
    assert sum(parts) == pytest.approx(row.share * row.call_ms)
    assert row.share < 1
    assert row.ops > 30
    assert row.to_dict()["mode"] == mode


def test_streams_are_refused(tiny_folder):
    ours = Ours(BenchSettings(tiny_folder, ("g-3",), (3,), seq_len=(8,), mode="streams"))
    with pytest.raises(TypeError, match="several threads"):
        measure_overhead(ours, "g-3", 3, 2, 8, rounds=1)
