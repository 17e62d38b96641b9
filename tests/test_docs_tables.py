"""What docs and README show was measured: it is what `make docs-tables` writes."""

import pytest
from lets.reproduce.pages import build_page
from lets.reproduce.source import Source

from bench import comparison, tables


def test_readme_shows_the_committed_demo():
    readme = (tables.ROOT / "README.md").read_text(encoding="utf-8")
    assert tables.with_demo(readme) == readme


def test_benchmarks_show_the_committed_measurements():
    shown = (tables.ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert tables.benchmarks() == shown


def test_comparison_shows_the_committed_measurements():
    shown = (tables.ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    assert comparison.with_measured(shown, tables.RESULTS) == shown


@pytest.mark.parametrize("name", ["figure3", "seqlen"])
def test_computed_pages_are_what_the_cost_model_says(name, tmp_path):
    """Pages with measured cells are made by `make reproduce`; these need none."""
    for path in build_page(name, Source(tmp_path)).save(tmp_path):
        shown = tables.ROOT / "docs" / "results" / path.name
        assert shown.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")
