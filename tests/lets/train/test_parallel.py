"""Two processes train one task as one does."""

import json
import os
import subprocess
import sys

import pytest
import torch
from lets.train.parallel import is_joined, joined

from tests.tiny import make_rows, write_csv

# Five rows in batches of three and two, so that shares differ; of a last batch of one row the
# second process gets none.
_LOOP = """
import sys, torch
from lets.train.batches import Batches
from lets.train.loop import LoopPlan, train
from lets.train.optim import make_adamw
from lets.train.parallel import joined
from safetensors.torch import save_file

def run(out):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    x, y = torch.randn(7, 3), torch.randn(7, 1)
    parameters = dict(model.named_parameters())
    state = train(
        LoopPlan("toy", 7, 9), parameters=parameters, optimizer=make_adamw(parameters, 0.05),
        batches=Batches(7, 3, 7, "toy"),
        compute_loss=lambda step, rows: torch.nn.functional.mse_loss(model(x[rows]), y[rows]),
    )
    save_file({n: p.detach() for n, p in parameters.items()}, out)
    return [entry["loss"] for entry in state.history]

with joined(sys.argv[1]) as (folder, is_main):
    losses = run(sys.argv[1] + ("/main" if is_main else "/other"))
if is_main:
    print(*losses)
"""


def launch(arguments, processes):
    """Through `accelerate launch`, on loopback."""
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    start = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1",
        "--num_processes", str(processes), "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", "0",
    ]  # fmt: skip
    command = [*start, *arguments] if processes > 1 else [sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_alone_nothing_changes(tmp_path):
    with joined(tmp_path) as (folder, is_main):
        assert (folder, is_main) == (tmp_path, True)
        assert not is_joined()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_same_weights_as_one_process(tmp_path):
    pytest.importorskip("accelerate")
    from safetensors.torch import load_file

    (tmp_path / "loop.py").write_text(_LOOP)
    losses, weights = [], []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        output = launch([str(tmp_path / "loop.py"), str(folder)], count)
        losses.append([float(word) for word in output.split()])
        weights += [load_file(file) for file in sorted(folder.iterdir())]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert len(weights) == 3
    for other in weights[1:]:
        for name, tensor in weights[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fit_with_two_processes(tiny_folder, tmp_path):
    """The same commands; dropout of the head is drawn for each share, so scores may differ."""
    pytest.importorskip("accelerate")
    recipe = {
        "max_seq_length": 16,
        "prune": {"density": 0.05, "warmup_steps": 4, "score_batches": 1, "learning_rate": 1e-3},
        "finetune": {"num_train_epochs": 4, "learning_rate": 1e-2},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    files = [write_csv(tmp_path / f"{s}.csv", make_rows(96, s)) for s in (1, 2)]
    scores = []
    for count in (1, 2):
        arguments = [
            "-m", "lets", "fit", "--encoder", tiny_folder, "--task-name", "warmth",
            "--train-file", files[0], "--validation-file", files[1], "--policy", "g-1",
            "--recipe", str(tmp_path / "recipe.json"), "--output-dir", str(tmp_path / str(count)),
            "--json",
        ]  # fmt: skip
        found = json.loads(launch(arguments, count))
        scores.append(found["dev_score"])
        assert found["pack"] == str(tmp_path / str(count) / "pack")
    assert scores[0] == pytest.approx(scores[1], abs=0.1)
    again = json.loads(launch(arguments, 2))
    assert again["skipped"] == ["prune", "finetune", "pack"]
