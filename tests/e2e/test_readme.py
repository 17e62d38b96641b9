"""What README and the guides tell a user to type runs as it is printed."""

import re

import pytest

from tests import documents

GUIDES = (
    "docs/quickstart.md",
    "docs/tutorial-replace-your-classifiers.md",
    "docs/cost-model.md",
    "docs/serving.md",
    "docs/ecosystem.md",
)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents.make_workplace(tmp_path)


def test_readme(workplace):
    text = documents.read("README.md")
    found = documents.blocks(text)
    verbs = [command[0] for _, code in found for command in documents.commands(code)]
    assert verbs == ["fit", "fit", "eval", "predict"]
    printed = documents.run_document(text)
    assert re.search(r"^  queue: (cold|warm)  0\.\d+\n  urgency: ", printed, re.MULTILINE)
    assert len([code for language, code in found if language == "python"]) == 2


@pytest.mark.parametrize("guide", GUIDES)
def test_guide(guide, workplace):
    text = documents.read(guide)
    assert documents.blocks(text)
    documents.run_document(text)


def test_links_and_names_of_the_docs():
    """Files that pages link to, and functions and tests that `algorithms.md` names, are there."""
    for page in (documents.ROOT / "docs").glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
    text = documents.read("docs/algorithms.md")
    for name in re.findall(r"`(lets(?:_ext)?\.[\w.]+)`", text):
        module, _, attribute = name.rpartition(".")
        assert hasattr(__import__(module, fromlist=[attribute]), attribute), name
    for path in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (documents.ROOT / path).is_file(), path
