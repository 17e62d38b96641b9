"""Code blocks of README and docs, run as they are printed on a tiny encoder and recipe."""

import json
import re
import shlex
from pathlib import Path

from lets.cli import app
from transformers import AutoTokenizer, BertForSequenceClassification
from typer.testing import CliRunner

from tests.tiny import LABELS, make_rows, save_tiny_bert, write_csv

ROOT = Path(__file__).resolve().parents[1]
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
RECIPE = {
    "max_seq_length": 16,
    "prune": {"density": 0.05, "warmup_steps": 2, "score_batches": 1},
    "search": {"num_train_epochs": 1},
    "finetune": {"num_train_epochs": 1},
    "full": {"num_train_epochs": 1},
}
# What stands in for the words of a command: the tiny encoder takes 32 tokens.
HERE = {ENCODER: "encoder", "small": "recipe.json", "48": "16", "64": "16"}
# It does not end by itself; its options are checked.
ENDLESS = ("serve",)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of every bash and python block, in order."""
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(code: str) -> list[list[str]]:
    """Arguments of every `lets` command of a bash block."""
    lines = code.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("lets ")]


def make_workplace(folder: Path) -> None:
    """The encoder, the recipe, the data and the model that the documents speak of."""
    save_tiny_bert(folder / "encoder", layers=4)
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    names = ("tickets", "held_out", "topic", "injection", "sentiment")
    for seed, name in enumerate(names, 1):
        rows = [
            {"text": r["text"], "label": r["label"], "body": r["text"], "queue": r["label"],
             "urgency": r["label"]}
            for r in make_rows(40, seed)
        ]  # fmt: skip
        write_csv(folder / f"{name}.csv", rows)
    labels = dict(enumerate(LABELS))
    model = BertForSequenceClassification.from_pretrained(
        folder / "encoder", id2label=labels, label2id={name: i for i, name in labels.items()}
    )
    for part in (model, AutoTokenizer.from_pretrained(folder / "encoder")):
        part.save_pretrained(folder / "my-sentiment-model")


def run_document(text: str) -> str:
    """Run every block in the current folder; returns what the last command printed."""
    names: dict = {}
    printed = ""
    for language, code in blocks(text):
        if language == "python":
            for word, here in ((ENCODER, "encoder"), ('"small"', '"recipe.json"')):
                code = code.replace(word, here)
            exec(code, names)
            continue
        for command in commands(code):
            printed = _run([HERE.get(word, word) for word in command])
    return printed


def _run(command: list[str]) -> str:
    if command[0] in ENDLESS:
        shown = CliRunner().invoke(app, [command[0], "--help"], terminal_width=200).output
        missing = [w for w in command if w.startswith("--") and w not in shown]
        assert not missing, f"lets {command[0]} has no {missing}"
        return ""
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, f"lets {shlex.join(command)}: {result.stderr}"
    return result.stdout
