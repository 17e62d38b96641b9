"""GLUE from the hub, with a stand-in for `datasets`: no test needs a network."""

import sys
from types import SimpleNamespace

import pytest
from lets.errors import LetsError
from lets.glue_hub import load_glue_hub


class Rows(list):
    column_names = ("premise", "hypothesis", "label", "idx")


def install(monkeypatch, load_dataset):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


def test_splits_and_labels(monkeypatch):
    asked = []

    def load_dataset(name, config, split):
        asked.append((name, config, split))
        return Rows([{"premise": "A.", "hypothesis": split, "label": 2, "idx": 0}])

    install(monkeypatch, load_dataset)
    data = load_glue_hub("MNLI")
    assert data.train[0].label == "contradiction"
    assert data.dev[0].text_pair == "validation_matched"
    assert load_glue_hub("mnli", "validation_mismatched").dev[0].text_pair.endswith("mismatched")
    assert asked[:2] == [
        ("nyu-mll/glue", "mnli", "train"), ("nyu-mll/glue", "mnli", "validation_matched"),
    ]  # fmt: skip


def test_a_hub_out_of_reach_is_one_line(monkeypatch):
    def load_dataset(name, config, split):
        raise ConnectionError("Couldn't reach the Hub\nlong story")

    install(monkeypatch, load_dataset)
    with pytest.raises(LetsError, match=r"load rte of .*reach the Hub; for files .* --glue-dir"):
        load_glue_hub("rte")


def test_an_unlabelled_split_is_refused(monkeypatch):
    def load_dataset(name, config, split):
        return Rows([{"premise": "A.", "hypothesis": "B.", "label": -1, "idx": 0}])

    install(monkeypatch, load_dataset)
    with pytest.raises(LetsError, match=r"nyu-mll/glue, mnli, train, row 0.*got '-1'"):
        load_glue_hub("mnli")


def test_without_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(LetsError, match="needs datasets, which is not installed"):
        load_glue_hub("rte")
