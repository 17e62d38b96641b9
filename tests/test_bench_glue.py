"""The GLUE grid on a tiny random encoder and tiny files: cells, interruption, what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from lets.reproduce.cell import Cell, load_cells
from safetensors.torch import load_file

from bench.glue import carry, run
from tests.tiny import make_rows, save_tiny_bert

RECIPE = {
    "max_seq_length": 16,
    "prune": {"density": 0.05, "warmup_steps": 3, "score_batches": 1},
    "search": {"num_train_epochs": 1, "pool": "f", "save_steps": 1},
    "finetune": {"num_train_epochs": 2, "learning_rate": 1e-2, "save_steps": 1},
    "full": {"num_train_epochs": 2, "learning_rate": 1e-3},
}
ENTAILS = {"warm": "entailment", "cold": "not_entailment"}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """An encoder, a recipe, and the tasks RTE and STS-B; the command's arguments for them."""
    folder = tmp_path_factory.mktemp("grid")
    save_tiny_bert(folder / "encoder")
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    for task, column, regression in (("RTE", "label", False), ("STS-B", "score", True)):
        (folder / "glue" / task).mkdir(parents=True)
        for split, count, seed in (("train", 60, 1), ("dev", 12, 2)):
            lines = [f"index\tsentence1\tsentence2\t{column}"]
            for i, row in enumerate(make_rows(count, seed, True, regression)):
                label = row["label"] if regression else ENTAILS[row["label"]]
                lines.append(f"{i}\t{row['text']}\t{row['other']}\t{label}")
            (folder / "glue" / task / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return [
        "--data", str(folder / "glue"), "--encoder", str(folder / "encoder"),
        "--recipe", str(folder / "recipe.json"), "--seeds", "0", "--train-rows", "40",
    ]  # fmt: skip


def arguments(given, folder, tasks, systems):
    where = ["--out", str(folder / "out"), "--work", str(folder / "work")]
    return [*given, *where, "--tasks", *tasks, "--systems", *systems]


@pytest.fixture(scope="module")
def finished(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    command = arguments(given, folder, ["rte", "sts-b"], ["full", "lets-pc"])
    assert run.main(command) == 0
    return folder, command


def test_a_cell_per_task_and_system(finished):
    folder, _ = finished
    cells = {(cell.task, cell.system): cell for cell in load_cells(folder / "out")}
    assert set(cells) == {(t, s) for t in ("rte", "sts-b") for s in ("full", "lets-pc")}
    full, sparse = cells["rte", "full"], cells["rte", "lets-pc"]
    assert full.rows == sparse.rows == {"train": 40, "slice": 6, "dev": 12}
    assert [entry["epoch"] for entry in sparse.history] == [1.0, 2.0]
    assert (full.recipe, full.encoder["name"]) == ("recipe", "encoder")
    assert full.ops["paper"]["new_ops_percent"] == full.params["new_params_percent"] == 100
    assert full.ops["engine"]["total_percent"] == pytest.approx(900)
    assert 0 < sparse.params["new_params_percent"] < 100
    assert sparse.policy is not None
    assert sparse.seconds.keys() == {"prune-supernet", "search", "prune", "finetune"}
    assert sparse.details["search"]["steps"] > 0
    assert set(cells["sts-b", "full"].scores) == {"spearman", "pearson"}
    # What is unfinished is kept, and what shares: nothing but locks and searches is left.
    assert {p.name for p in (folder / "work").iterdir()} == {
        "rte.0.lock", "rte.search.0", "sts-b.0.lock", "sts-b.search.0",
    }  # fmt: skip


def test_what_exists_is_skipped(finished, capsys):
    folder, command = finished
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}
    assert run.main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()} == before
    assert capsys.readouterr().out == ""


def test_cells_of_other_settings_are_refused(finished, capsys):
    folder, command = finished
    before = (folder / "out" / "rte.full.0.json").read_bytes()
    changed = [*command, "--train-rows", "30", "--max-length", "12"]
    assert run.main(changed) == 2
    message = r"rte.full.0.json: was made with another max_seq_length, number of train rows"
    assert message in capsys.readouterr().err
    assert (folder / "out" / "rte.full.0.json").read_bytes() == before


@pytest.mark.parametrize("after", [2, 5, 8, 12])
def test_an_interrupted_cell_ends_the_same(given, finished, tmp_path, monkeypatch, after):
    command, calls = arguments(given, tmp_path, ["rte"], ["lets-pc"]), 0

    def over(self):
        nonlocal calls
        calls += 1
        return calls > after

    with monkeypatch.context() as patch:
        patch.setattr(run.Deadline, "over", over)
        assert run.main(command) == 0
    assert not (tmp_path / "out").exists()
    assert run.main(command) == 0
    cell, expected = (
        replace(Cell.load(f / "out" / "rte.lets-pc.0.json"), seconds={}, environment={})
        for f in (tmp_path, finished[0])
    )
    assert cell == expected


def test_no_time_left_is_no_failure(given, tmp_path, capsys):
    command = arguments(given, tmp_path, ["rte"], ["full"])
    assert run.main([*command, "--max-seconds", "0"]) == 0
    assert "out of time" in capsys.readouterr().out


def test_a_task_that_another_process_works_on_is_left(given, tmp_path, capsys):
    command = arguments(given, tmp_path, ["rte"], ["full"])
    (tmp_path / "work").mkdir()
    with run._claim(tmp_path / "work" / "rte.0.lock") as mine:
        assert mine
        assert run.main(command) == 0
    assert "rte seed 0: another process is at it" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--tasks", "squad"], "glue: task must be one of cola"),
        (["--tasks", "cola"], "CoLA not found"),
        (["--systems", "telepathy"], "system: must be one of full"),
        (["--recipe", "absent"], "recipe: 'absent' is neither a file"),
        (["--encoder", "/absent"], "encoder: cannot load /absent"),
        (["--file", "rte=other.tsv"], "--file: must be"),
        (["--file", "rte.train=other.tsv"], "other.tsv: file not found"),
    ],
)
def test_bad_input_fails_before_training(given, tmp_path, capsys, changes, message):
    assert run.main([*arguments(given, tmp_path, ["rte"], ["full"]), *changes]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_carried_folder_runs_the_grid(given, tmp_path, capsys):
    options = dict(zip(given[::2], given[1::2]))
    source = ["--data", options["--data"], "--encoder", options["--encoder"]]
    assert carry.main([*source, "--out", str(tmp_path / "small"), "--tasks", "rte"]) == 0
    weights = load_file(tmp_path / "small" / "encoder" / "model.safetensors")
    assert {t.dtype for t in weights.values()} == {torch.float16}
    assert [p.name for p in (tmp_path / "small" / "glue").iterdir()] == ["RTE"]
    command = arguments(given, tmp_path, ["rte"], ["freeze-1"])
    carried = ["--data", str(tmp_path / "small" / "glue")]
    carried += ["--encoder", str(tmp_path / "small" / "encoder")]
    assert run.main([*command, *carried]) == 0
    assert [cell.system for cell in load_cells(tmp_path / "out")] == ["freeze-1"]
    assert carry.main([*source, "--out", str(tmp_path / "no"), "--tasks", "cola"]) == 2
    assert "CoLA not found" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_several_processes_share_the_work(given, tmp_path):
    command = arguments(given, tmp_path, ["rte", "sts-b"], ["freeze-2"])
    assert run.main([*command, "--jobs", "2"]) == 0
    assert {cell.task for cell in load_cells(tmp_path / "out")} == {"rte", "sts-b"}


def test_the_end_of_the_time_is_a_checkpoint(given, tmp_path, monkeypatch):
    calls = iter([False, False, True])  # before the cell, after step 1, after step 2
    with monkeypatch.context() as patch:
        patch.setattr(run.Deadline, "over", lambda self: next(calls))
        assert run.main(arguments(given, tmp_path, ["rte"], ["full"])) == 0
    checkpoints = tmp_path / "work" / "rte.full.0" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-2"]
