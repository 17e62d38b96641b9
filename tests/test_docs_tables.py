"""What docs and README show was measured: it is what `make docs-tables` writes."""

import pytest
from lets.reproduce.pages import build_page
from lets.reproduce.source import Source

from bench import comparison, tables
from bench.engine_tables import ablation_section


def test_readme_shows_the_committed_measurements():
    readme = (tables.ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.with_demo(readme) == readme
    assert tables.with_engine(readme) == readme


def test_benchmarks_show_the_committed_measurements():
    shown = (tables.ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert tables.benchmarks() == shown


def test_reliability_shows_the_committed_runs():
    shown = (tables.ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert tables.reliability(tables.RESULTS) == shown


def test_comparison_shows_the_committed_measurements():
    shown = (tables.ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert comparison.with_measured(shown, tables.RESULTS) == shown


@pytest.mark.parametrize("name", ["figure3", "seqlen"])
def test_computed_pages_are_what_the_cost_model_says(name, tmp_path):
    """Pages with measured cells are made by `make reproduce`; these need none."""
    for path in build_page(name, Source(tmp_path)).save(tmp_path):
        shown = tables.ROOT / "docs" / "results" / path.name
        assert shown.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


def test_parts_of_the_engine():
    row = {"policy": "fig2b", "tasks": 9, "batch": 1, "seq_len": 128, "threads": 2, "rounds": 3}
    row |= {"variant": "all", "lets_ms": 400.0, "iqr_ms": 4.0, "slowdown": 1.0}
    row["max_abs_diff"] = 1e-6
    wrong = {**row, "variant": "without x", "lets_ms": None, "iqr_ms": None, "slowdown": None}
    lines = list(ablation_section({"settings": {"encoder": "bert-base"}, "rows": [row, wrong]}))
    assert "| all | 400.0 ± 2.0 | 1.00 | 1e-06 |" in lines
    assert "| without x | wrong | - | 1e-06 |" in lines
