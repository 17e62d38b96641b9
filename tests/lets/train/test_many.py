"""Several tasks in one command: local, and on a Ray cluster of which parts are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from lets.cli import app
from lets.cli.options import DataOptions, RunOptions
from lets.cli.requests import read_tasks
from lets.errors import LetsError
from lets.train.many import RayOptions, TaskRun, fit_many
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.tiny import make_rows, write_csv

RECIPE = {
    "max_seq_length": 16,
    "prune": {"density": 0.05, "warmup_steps": 4, "score_batches": 1, "learning_rate": 1e-3},
    "finetune": {"num_train_epochs": 3, "learning_rate": 1e-2, "save_steps": 2},
}


@pytest.fixture
def runs(tiny_folder, tiny_task, tiny_config, tmp_path):
    config = tiny_config.override({"finetune": {"num_train_epochs": 1}})

    def make(folder, names=("a", "b")):
        return [
            TaskRun(tiny_folder, replace(tiny_task(), name=name), config,
                    str(tmp_path / folder / name), policy="g-1")
            for name in names
        ]  # fmt: skip

    return make


@pytest.fixture
def files(tiny_folder, tmp_path):
    """A tasks.yaml of two tasks, and the command line that trains them."""
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    train = write_csv(tmp_path / "train.csv", make_rows(96, 1))
    dev = write_csv(tmp_path / "dev.csv", make_rows(48, 2))
    entries = {
        "short": {"train-file": train, "validation_file": dev, "num_train_epochs": 1},
        "long": {"train-file": train, "validation_file": dev, "num-train-epochs": 12, "seed": 7},
    }
    (tmp_path / "tasks.yaml").write_text(json.dumps(entries))

    def command(output, *more):
        return [
            "fit", "--tasks", str(tmp_path / "tasks.yaml"), "--encoder", tiny_folder,
            "--recipe", str(tmp_path / "recipe.json"), "--policy", "g-1",
            "--output-dir", str(tmp_path / output), "--json", *more,
        ]  # fmt: skip

    return command


def same_packs(first, second):
    a, b = (load_file(f"{pack}/lets_delta.safetensors") for pack in (first, second))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_one_after_the_other(runs):
    results = fit_many(runs("here"))
    assert list(results) == ["a", "b"]
    assert same_packs(results["a"]["pack"], results["b"]["pack"])
    assert fit_many(runs("here"))["a"]["skipped"] == ["prune", "finetune", "pack"]


def test_others_end_when_one_fails(runs, tmp_path):
    good, bad = runs("mixed")
    bad = replace(bad, policy="g-2")  # of three layers
    with pytest.raises(LetsError, match="1 of 2 tasks failed: b: policy: the number of groups"):
        fit_many([bad, good])
    assert (tmp_path / "mixed" / "a" / "pack").is_dir()
    with pytest.raises(LetsError, match="engine must be one of local, ray, got 'dask'"):
        fit_many([good], engine="dask")
    with pytest.raises(LetsError, match="different names, got a more than once"):
        fit_many([good, good])


def test_ray_does_not_wait_for_a_gpu_that_is_not_there(runs, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LetsError, match="torch sees no CUDA device"):
        fit_many([replace(runs("gpu")[0], device="cuda")], "ray")


def test_tasks_file(files, tmp_path):
    entries = json.loads((tmp_path / "tasks.yaml").read_text())
    del entries["long"]
    (tmp_path / "tasks.yaml").write_text(json.dumps(entries))
    result = CliRunner().invoke(app, files("run"))
    assert result.exit_code == 0, result.output + result.stderr
    found = json.loads(result.stdout)["short"]
    assert found["pack"] == str(tmp_path / "run" / "short" / "pack")
    (tmp_path / "tasks.yaml").write_text(json.dumps({"short": {"sede": 1}}))
    wrong = CliRunner().invoke(app, files("run"))
    assert wrong.exit_code == 2
    assert "short: unknown flag 'sede'" in wrong.stderr


def test_values_of_a_tasks_file_are_read_as_the_command_line_reads_them(tmp_path):
    data, run = DataOptions(task_name=None), RunOptions("bert", "runs")
    path = tmp_path / "tasks.yaml"

    def read(text):
        path.write_text(f"a: {text}")
        return read_tasks(data, run, str(path), None)[0]

    its_data, its_run, policy = read(
        "{data: a.csv, text: 5, learning-rate: 1e-3, density: 1, set: [a.b=1], policy: g-2}"
    )
    assert (its_data.train_file, its_data.text_column, its_data.task_name) == ("a.csv", "5", "a")
    assert (its_run.learning_rate, its_run.density, its_run.settings) == (0.001, 1.0, ["a.b=1"])
    assert (its_run.output_dir, policy) == ("runs/a", "g-2")
    for text, message in (
        ("{data: [a.csv]}", "data must be of type str or nothing, got \\['a.csv'\\]"),
        ("{max-train-samples: few}", "max-train-samples must be of type int or nothing"),
        ("{seed: 1.5}", "seed must be of type int"),
        ("{first-order: 1}", "first-order must be of type bool, got 1"),
        ("{set: [1]}", "set must be of type list"),
        ("{data: a.csv, train_file: b.csv}", "train_file gives a flag a second time"),
        ("{output: x}", "unknown flag 'output'"),
    ):
        with pytest.raises(LetsError, match=message):
            read(text)


def wait_for(condition, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def checkpoints(folder):
    return list((folder / "finetune" / "checkpoints").glob("checkpoint-*"))


@pytest.fixture
def environment():
    path = os.pathsep.join(p for p in sys.path if p)
    return {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_ray_with_a_worker_killed(files, tmp_path, environment):
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "lets", *files("ray", "--engine", "ray", "--workers", "2")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as driver:
        folder = tmp_path / "ray" / "long"
        wait_for(lambda: checkpoints(folder) or driver.poll() is not None)
        assert driver.poll() is None
        first = int((folder / ".lock").read_text())
        os.kill(first, signal.SIGKILL)
        output, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0
    assert int((folder / ".lock").read_text()) != first
    plain = CliRunner().invoke(app, files("plain"))
    for name, expected in json.loads(plain.stdout).items():
        assert same_packs(json.loads(output)[name]["pack"], expected["pack"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_driver_killed_and_restarted(files, tmp_path, environment):
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "lets", *files("ray", "--engine", "ray", "--workers", "2")]
    short, long = tmp_path / "ray" / "short", tmp_path / "ray" / "long"
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as driver:
        wait_for(lambda: (short / "pack.json").exists() and checkpoints(long))
        driver.kill()
    assert not (long / "pack").exists()
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    results = json.loads(again.stdout)
    assert results["short"]["skipped"] == ["prune", "finetune", "pack"]
    assert "prune" in results["long"]["skipped"]
    plain = json.loads(CliRunner().invoke(app, files("plain")).stdout)
    assert all(same_packs(results[name]["pack"], plain[name]["pack"]) for name in plain)


def test_ray_missing_is_told(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LetsError, match=r"pip install 'lets-ext\[ray\]'"):
        fit_many(runs("none"), "ray", RayOptions(workers=1))
