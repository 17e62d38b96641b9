"""The grid of engine benchmarks on a tiny encoder: its file, its tables and its plot."""

import json
import re

import pytest

from bench import engine, plot, tables
from bench.engine_tables import train_step_section
from tests.tiny import save_tiny_bert


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    tiny = {
        "encoder": save_tiny_bert(folder / "encoder"),
        "policies": ("g-3",),
        "seq_len": (8,),
        "rounds": 1,
    }
    runs = {
        "tasks": {**tiny, "tasks": (1, 2), "baselines": ("eager", "stacked")},
        "other": {**tiny, "tasks": (3,), "baselines": ("eager", "cuda-graph"), "max_models": 2},
    }
    target = folder / "results" / "machine" / "engine.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "RUNS", runs)
        assert engine.main(["--threads", "1", "--out", str(target)]) == 0
        first = json.loads(target.read_text())
        assert engine.main(["other", "--threads", "1", "--out", str(target)]) == 0
        second = json.loads(target.read_text())
        assert second["runs"]["tasks"] == first["runs"]["tasks"]
        assert second["runs"]["other"]["rows"] == first["runs"]["other"]["rows"]
        lost = second["runs"]["tasks"]["rows"].pop()
        target.write_text(json.dumps(second))
        assert engine.main(["tasks", "--threads", "1", "--out", str(target)]) == 0
        third = json.loads(target.read_text())["runs"]["tasks"]["rows"]
        assert third[:-1] == first["runs"]["tasks"]["rows"][:-1]
        assert (third[-1]["baseline"], third[-1]["tasks"]) == (lost["baseline"], lost["tasks"])
        assert engine.main(["tasks", "--again", "--threads", "1", "--out", str(target)]) == 0
        fourth = json.loads(target.read_text())["runs"]["tasks"]["rows"]
        assert fourth[0]["lets_ms"] != first["runs"]["tasks"]["rows"][0]["lets_ms"]
        with pytest.raises(SystemExit):
            engine.main(["everything"])
    return target


def test_file_has_all_rows(results):
    runs = json.loads(results.read_text())["runs"]
    assert [(r["baseline"], r["tasks"]) for r in runs["tasks"]["rows"]] == [
        ("eager", 1), ("eager", 2), ("stacked", 1), ("stacked", 2)
    ]  # fmt: skip
    assert [e["baseline"] for e in runs["other"]["skipped"]] == ["cuda-graph"]
    assert all(run["settings"]["threads"] == 1 for run in runs.values())


def test_time_that_is_up(results, tmp_path, capsys):
    assert engine.main(["--minutes", "-1", "--out", str(tmp_path / "none.json")]) == 0
    assert "goal: not measured, the time is up" in capsys.readouterr().out


def test_tables(results):
    text = tables.benchmarks(results.parents[1])
    assert "## The engine beside dense models" in text
    assert re.search(r"\| 2 \| stacked \| [\d.]+ ± [\d.]+ \| .* \| \*\*[\d.]+\*\* \|", text)
    assert "†" in text
    assert "cuda-graph: not measured, needs a CUDA device" in text


def test_row_without_ratio_says_why(results):
    result = json.loads(results.read_text())
    row = result["runs"]["other"]["rows"][0]
    row |= {"ratio": None, "lets_ms": None, "baseline_ms": None, "error": "differs by 1"}
    text = "\n".join(tables.engine_sections(result))
    assert "| eager | - | - | differs by 1 |" in text


def test_train_step_table():
    row = {
        "variant": "lets", "encoder": "e", "policy": "p", "batch": 1, "seq_len": 8, "threads": 1,
        "step_ms": 100.0, "iqr_ms": 4.0, "speedup": 2.0, "peak_mb": 10.0, "imports_mb": 5.0,
        "memory_ratio": 0.5,
    }  # fmt: skip
    assert "| lets | 100 ± 2 | 2.00 | 10 | 50% |" in list(train_step_section({"rows": [row]}))


def test_plot(results, tmp_path):
    pytest.importorskip("matplotlib")
    plot.main([str(results), str(tmp_path / "plot.png")])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
