import json
from dataclasses import replace

import pytest
from lets.config import FitConfig
from lets.errors import LetsError
from lets.reproduce.cell import Cell, differences, load_cells, rounded


def make_cell(**changes) -> Cell:
    ops = {
        "new_ops_percent": 42.0,
        "overhead_percent": 83.0,
        "total_percent": 461.0,
        "max_speedup": 2,
    }
    params = {
        "new_params": 9, "new_params_percent": 1.2, "mask_percent": 0.3, "total_params_ratio": 1.1
    }  # fmt: skip
    values = {
        "task": "rte",
        "system": "lets-pc",
        "seed": 1,
        "recipe": "small",
        "settings": FitConfig(seed=1).to_dict(),
        "encoder": {"name": "minilm-l6", "fingerprint": "abc"},
        "rows": {"train": 20, "slice": 5, "dev": 4},
        "problem_type": "classification",
        "metric": "accuracy",
        "history": [{"epoch": 1.0, "step": 3, "loss": 0.7, "score": 0.5}],
        "chosen_epoch": 1.0,
        "scores": {"accuracy": 0.75},
        "targets": [0, 1, 1, 0],
        "predictions": [0, 1, 0, 0],
        "ops": {"paper": ops, "engine": ops},
        "params": params,
        "seconds": {"finetune": 3.0},
        "policy": {"input": "pff", "pool": "fff"},
    }
    return Cell(**{**values, **changes})


def test_a_saved_cell_is_the_same(tmp_path):
    cell = make_cell()
    assert cell.save(tmp_path).name == "rte.lets-pc.1.json"
    assert load_cells(tmp_path) == [cell]


def test_numbers_keep_four_digits(tmp_path):
    cell = make_cell(
        problem_type="regression", metric="spearman", scores={"spearman": 0.8}, policy=None,
        targets=[0.0, 1.25, 5.0, 3.0], predictions=[rounded(0.1234567), -1.2e-7, 4.9, 3.1],
    )  # fmt: skip
    found = Cell.load(cell.save(tmp_path))
    assert found == cell
    assert found.predictions[:2] == [0.1235, -1.2e-7]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "../x"}, "task must be a lower-case name"),
        ({"system": "Full"}, "system must be a lower-case name, got 'Full'"),
        ({"scores": {"f1": 0.5}}, "must be finite and hold accuracy"),
        ({"scores": {"accuracy": 0.8}}, "accuracy is 0.8, its predictions give 0.75"),
        ({"predictions": [0, 1]}, "as many as rows.dev"),
        ({"chosen_epoch": 2.0}, "must be in the history"),
        ({"ops": {"paper": {}}}, "engine, paper"),
        ({"params": {"new_params": float("nan")}}, "new_params"),
        ({"policy": {"input": "xx", "pool": "ff"}}, "policy"),
        ({"metric": "bleu"}, "bleu"),
    ],
)
def test_a_wrong_cell_is_refused(changes, message):
    with pytest.raises(LetsError, match=message):
        make_cell(**changes)


def test_a_damaged_file_is_named(tmp_path):
    path = make_cell().save(tmp_path)
    raw = json.loads(path.read_text())
    for change in ({"format": 9}, {"extra": 1}, {"targets": "01x0"}, {"policy": 3}):
        path.write_text(json.dumps({**raw, **change}))
        with pytest.raises(LetsError, match=r"rte\.lets-pc\.1\.json"):
            Cell.load(path)
    del raw["scores"]
    path.write_text(json.dumps(raw))
    with pytest.raises(LetsError, match=r"lacks \['scores'\]"):
        Cell.load(path)
    with pytest.raises(LetsError, match="folder of result cells not found"):
        load_cells(tmp_path / "absent")


def test_differences_are_named():
    cell, rows = make_cell(), {"train": 20, "slice": 5}
    config = FitConfig(seed=1)
    assert differences(cell, config, "abc", rows) == []
    other = config.override({"finetune": {"num_train_epochs": 3}})
    assert differences(cell, other, "xyz", {**rows, "train": 9}) == [
        "finetune.num_train_epochs", "encoder", "number of train rows",
    ]  # fmt: skip
    older = {k: v for k, v in cell.settings.items() if k != "full"}  # from before `full` existed
    assert differences(replace(cell, settings=older), config, "abc", rows) == []
