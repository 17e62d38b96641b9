"""What README tells a user to type runs as it is printed, on a tiny encoder and recipe."""

import json
import re
import shlex
from pathlib import Path

import pytest
from lets.cli import app
from typer.testing import CliRunner

from tests.tiny import make_rows, save_tiny_bert, write_csv

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
RECIPE = {
    "max_seq_length": 16,
    "prune": {"density": 0.05, "warmup_steps": 2, "score_batches": 1},
    "search": {"num_train_epochs": 1},
    "finetune": {"num_train_epochs": 1},
}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny_bert(tmp_path / "encoder")
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    for name, seed in (("tickets", 1), ("held_out", 2)):
        rows = make_rows(40, seed)
        write_csv(
            tmp_path / f"{name}.csv",
            [{"body": r["text"], "queue": r["label"], "urgency": r["label"]} for r in rows],
        )


def test_commands_and_snippets(workplace):
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("lets ")]
    assert [command[0] for command in commands] == ["fit", "fit", "eval", "predict"]
    here = {ENCODER: "encoder", "small": "recipe.json"}
    for command in commands:
        result = CliRunner().invoke(app, [here.get(word, word) for word in command])
        assert result.exit_code == 0, result.stderr
    assert re.search(r"^  queue: (cold|warm)  0\.\d+\n  urgency: ", result.stdout, re.MULTILINE)
    snippets = blocks("python")
    assert len(snippets) == 2
    for snippet in snippets:
        exec(snippet.replace(ENCODER, "encoder"), {})
