"""Every example runs offline and does what it says."""

import re
from pathlib import Path

import torch

from examples import bert_with_deltas, draw_policy

ROOT = Path(__file__).resolve().parents[1]


def test_all_examples_are_tested():
    found = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert found == {"bert_with_deltas.py", "draw_policy.py"}


def test_bert_learns_through_its_deltas():
    first, last = bert_with_deltas.main("cpu", steps=12)
    assert last < 0.6 * first


def test_bert_compiles_to_one_graph():
    linear = torch.nn.Linear(8, 6)
    module = bert_with_deltas.DeltaLinear(linear, 0.5)
    torch.nn.init.normal_(module.values)
    x = torch.randn(2, 3, 8)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), module(x))


def test_page_about_kernels_names_files_that_exist():
    page = (ROOT / "docs" / "kernels.md").read_text()
    names = set(re.findall(r"(test_\w+\.py)(?:::(\w+))?", page))
    assert len(names) > 5
    for file, test in names:
        (path,) = (ROOT / "tests").rglob(file)
        assert f"def {test}" in path.read_text()


def test_policies_are_drawn_and_priced(tmp_path):
    picture = tmp_path / "policies.svg"
    added = draw_policy.main(["fig2b", "g-4"], output=picture)
    assert 0 < added["fig2b"] < added["g-4"] < 100
    assert f"{added['fig2b']:.1f}% new operations" in picture.read_text()
