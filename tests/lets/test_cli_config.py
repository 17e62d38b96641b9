"""`--config run.yaml`: flags from a file, those of the command line first."""

import json

import pytest
from lets.cli import app
from lets.cli.config_file import flags_of, read_flags
from lets.errors import LetsError
from typer.main import get_command
from typer.testing import CliRunner

from tests.tiny import make_rows, write_csv

RECIPE = {
    "prune": {"warmup_steps": 2, "score_batches": 1},
    "finetune": {"learning_rate": 1e-2},
}


def run(*arguments, exit_code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == exit_code, result.output + result.stderr
    return result


@pytest.fixture
def config(tiny_folder, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    train = write_csv(tmp_path / "train.csv", make_rows(48, 1))
    lines = {
        "encoder": tiny_folder, "train-file": train, "output_dir": str(tmp_path / "run"),
        "task-name": "warmth", "max_seq_length": 16, "recipe": str(tmp_path / "recipe.json"),
        "policy": "g-1", "num-train-epochs": 2, "overwrite": True,
        "set": ["finetune.bias_learning_rate=0.01", "finetune.save_steps=7"],
    }  # fmt: skip
    path = tmp_path / "run.yaml"
    path.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in lines.items()))
    return path


def test_file_gives_what_the_command_line_does_not(config, tmp_path):
    result = run("fit", "--config", config, "--num-train-epochs", "1", "--json")
    settings = json.loads((tmp_path / "run" / "fit.json").read_text())["config"]
    assert settings["finetune"]["num_train_epochs"] == 1
    assert settings["finetune"]["save_steps"] == 7
    assert settings["max_seq_length"] == 16
    assert json.loads(result.stdout)["metric"] == "accuracy"


def test_required_flags_are_still_required(tmp_path):
    (tmp_path / "run.yaml").write_text("seed: 3\n")
    result = run("fit", "--config", tmp_path / "run.yaml", exit_code=2)
    assert "--encoder" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede: 3", "unknown flag 'sede'; known: "),
        ("config: a.yaml", "unknown flag 'config'"),
        ("- seed", "must be a mapping, got list"),
        ("seed: {a: 1}", "seed must be a value or a list of values"),
        ("train-file: a\ndata: b", "data gives a flag a second time"),
        ("seed: [", "is not YAML"),
        ("seed: 2024-13-01", "is not YAML"),
        ("seed: " + "[" * 5000, "is not YAML"),
    ],
)
def test_refused(text, message, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    fit = get_command(app).commands["fit"]
    with pytest.raises(LetsError, match=message):
        read_flags(path, flags_of(fit))


def test_wrong_values_are_usage_errors(tmp_path):
    (tmp_path / "run.yaml").write_text("encoder: e\noutput-dir: o\nseed: many\n")
    result = run("fit", "--config", tmp_path / "run.yaml", exit_code=2)
    assert "--seed" in result.stderr
    assert "cannot read" in run("fit", "--config", tmp_path / "no.yaml", exit_code=2).stderr


def test_every_training_verb_takes_it():
    commands = get_command(app).commands
    for verb in ("fit", "prune", "search", "finetune", "convert"):
        assert "--config" in [o for p in commands[verb].params for o in p.opts], verb
