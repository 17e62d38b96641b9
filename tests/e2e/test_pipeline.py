"""The command line on a tiny BERT: fit, killed and resumed, stage by stage, eval, predict."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from lets.cli import app
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.tiny import make_rows, save_tiny_bert, write_csv

RECIPE = {
    "max_seq_length": 16,
    "prune": {"density": 0.05, "warmup_steps": 6, "score_batches": 2, "learning_rate": 1e-3},
    "search": {"num_train_epochs": 1, "learning_rate": 1e-2, "arch_learning_rate": 0.1},
    "finetune": {"num_train_epochs": 8, "learning_rate": 1e-2, "save_steps": 1},
    "full": {"num_train_epochs": 2, "learning_rate": 1e-3, "head_learning_rate": 1e-2},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    return {
        "encoder": save_tiny_bert(folder / "encoder"),
        "recipe": str(folder / "recipe.json"),
        "train": write_csv(folder / "train.csv", make_rows(96, 1)),
        "dev": write_csv(folder / "dev.csv", make_rows(48, 2)),
        "folder": folder,
    }


def run(*arguments, exit_code=0, stdin=None):
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == exit_code, result.output + result.stderr
    return json.loads(result.stdout) if "--json" in arguments else result


def fit_arguments(files, output, *more):
    return [
        "fit", "--task-name", "warmth", "--encoder", files["encoder"], "--recipe", files["recipe"],
        "--train_file", files["train"], "--validation-file", files["dev"],
        "--output-dir", files["folder"] / output, "--json", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def fitted(files):
    return run(*fit_arguments(files, "plain"))


def test_fit_eval_predict(files, fitted):
    assert fitted["dev_score"] > 0.7
    pack = fitted["pack"]
    scored = run(
        "eval", pack, "--encoder", files["encoder"], "--validation-file", files["dev"], "--json"
    )
    assert scored["metric"] == "accuracy"
    assert scored["rows"] == 48
    assert scored["score"] == pytest.approx(fitted["dev_score"], abs=1e-9)
    answers = run(
        "predict", "--encoder", files["encoder"], "--pack", pack, "--json",
        "the sun and summer fire", "ice and snow near the glacier",
    )  # fmt: skip
    assert [entry["text"] for entry in answers][1] == "ice and snow near the glacier"
    assert {entry["answers"]["warmth"]["label"] for entry in answers} <= {"cold", "warm"}
    from_stdin = run(
        "predict", "--encoder", files["encoder"], "--pack", pack, "--json",
        stdin="the sun and summer fire\n\n",
    )  # fmt: skip
    assert from_stdin[0]["answers"]["warmth"]["label"] == answers[0]["answers"]["warmth"]["label"]
    shown = run("predict", "--encoder", files["encoder"], "--pack", pack, "the old ice").stdout
    assert "warmth: " in shown


def test_killed_and_resumed_to_the_same_bits(files, fitted):
    """SIGKILL in the middle of fine-tuning: no handler helps, only what is on the disk."""
    output = files["folder"] / "killed"
    command = [sys.executable, "-c", "from lets.cli import main; main()"]
    command += [str(a) for a in fit_arguments(files, "killed")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not list((output / "finetune" / "checkpoints").glob("checkpoint-*")):
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (output / "pack").exists()
    resumed = run(*fit_arguments(files, "killed"))
    assert resumed["skipped"] == ["prune-supernet", "search", "prune"]
    tensors = [
        load_file(folder / "pack" / "lets_delta.safetensors")
        for folder in (output, files["folder"] / "plain")
    ]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[1])


def test_stages_one_by_one_give_the_same_pack(files, fitted):
    def stage(verb, output, *more):
        arguments = fit_arguments(files, f"stages/{output}", *more)
        return run(verb, *arguments[1:])

    trial = stage("prune", "trial")
    found = stage("search", "search", "--mask", trial["mask"])
    assert found["policy"] == fitted["policy"]
    final = stage("prune", "final", "--policy", found["policy_file"])
    tuned = stage("finetune", "task", "--policy", found["policy_file"], "--mask", final["mask"])
    tensors = [
        load_file(f"{pack}/lets_delta.safetensors") for pack in (tuned["pack"], fitted["pack"])
    ]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[1])


def test_full_fine_tuning_under_the_same_command(files):
    result = run(*fit_arguments(files, "full", "--method", "full"))
    scored = run("eval", result["model"], "--validation-file", files["dev"], "--json")
    assert scored["score"] == pytest.approx(result["dev_score"], abs=1e-9)


def test_full_fine_tuning_prints_what_people_read(files):
    arguments = [a for a in fit_arguments(files, "full", "--method", "full") if a != "--json"]
    lines = run(*arguments).stdout.splitlines()
    names = [line.split(":")[0] for line in lines]
    assert names == ["model", "metric", "dev score", "seconds", "wall seconds"]


def test_results_of_other_settings_are_kept_without_overwrite(files, fitted):
    arguments = fit_arguments(files, "plain", "--num-train-epochs", "1")
    result = run(*(a for a in arguments if a != "--json"), exit_code=2)
    assert "(config.num_train_epochs 8.0 -> 1.0)" in result.stderr
    assert "give --overwrite to replace it" in result.stderr
    assert run(*fit_arguments(files, "plain"))["skipped"] == list(fitted["timings"])


def test_batch_size_of_an_evaluation(files, fitted):
    result = run(
        "eval", fitted["pack"], "--encoder", files["encoder"], "--validation-file", files["dev"],
        "--per-device-eval-batch-size", "0", exit_code=2,
    )  # fmt: skip
    assert "batch size must be positive, got 0" in result.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max-train-samples", "-1"], "train must keep at least one row, got -1"),
        (["--density", "0"], r"density must be in (0, 1], got 0"),
        (["--density", "1.5"], r"density must be in (0, 1], got 1.5"),
        (["--text-column", "body"], "column 'body' not found; available: text, label"),
        (["--recipe", "huge"], "'huge' is neither a file nor one of demo, paper, small"),
        (["--set", "search.nonsense=1"], "unknown setting 'nonsense'"),
        (["--method", "half"], "must be lets or full, got 'half'"),
        (["--method", "full", "--policy", "g-1"], "full fine-tuning has none"),
        (["--policy", "g-2"], "must divide the 3 layers"),
    ],
)
def test_bad_input_ends_with_code_2_and_leaves_nothing(files, more, message):
    result = run(*fit_arguments(files, "bad")[:-1], *more, exit_code=2)
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (files["folder"] / "bad").exists()
