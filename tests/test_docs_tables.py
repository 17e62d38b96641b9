"""What docs and README show was measured: it is what `make docs-tables` writes."""

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
