"""`lets plan`: packs and policies, tables and pages, errors."""

import json

import pytest
from lets.cli import app
from lets.pack import save_pack
from lets.plan.step import Plan
from lets.policy import Policy
from typer.testing import CliRunner

from tests.models import make_encoder, make_task


def run(*arguments):
    return CliRunner().invoke(app, ["plan", *map(str, arguments)])


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder, encoder = tmp_path_factory.mktemp("packs"), make_encoder()
    words = {"cheap": ("ppp", "ppf"), "dear": ("pff", "fff"), "middle": ("ppf", "pff")}
    return [
        save_pack(folder / name, make_task(encoder, Policy(*word), seed=i, name=name), encoder)
        for i, (name, word) in enumerate(words.items())
    ]


def test_packs(packs, tmp_path):
    page = tmp_path / "plan.html"
    shown = run(*packs, "--seq-len", 16, "--html", page, "--steps")
    assert shown.exit_code == 0, shown.output
    for text in ("cheap", "dear is the most expensive task", "critical path", "full_tail"):
        assert text in shown.output
    assert page.read_text().startswith("<!doctype html>")
    assert "<script" not in page.read_text()
    data = json.loads(run(*packs, "--seq-len", 16, "--json", "--steps").output)
    assert [task["name"] for task in data["tasks"]] == ["cheap", "dear", "middle"]
    assert data["tasks"][1]["full_layers"] == [0, 1]
    assert data["layers"][2]["cases"] == {"f-cls": ["dear", "middle"], "p-cls": ["cheap"]}
    assert Plan.from_dict(data["plan"]).tasks == ("cheap", "dear", "middle")
    added = sum(task["gflop"] for task in data["tasks"])
    assert data["gflop"] == pytest.approx(data["shared_gflop"] + added, rel=0.05)


def test_one_task_is_no_saving():
    result = run("--policy", "fig2b", "--encoder", "bert-base", "--density", 0.003)
    assert "One task alone costs 105% of a dense model" in " ".join(result.output.split())
    data = json.loads(run("--policy", "fig2b", "--copies", 9, "--density", 0.003, "--json").output)
    assert data["flop_ratio"] == pytest.approx(2.755, abs=0.01)
    assert data["expected_ms"]["stacked"] > 0
    memory = data["memory"]
    assert memory["activations_mb"] > memory["buffers_mb"] > 0


def test_dependent_tasks():
    arguments = ("--policy", "g-4", "--copies", 3, "--streams", 4, "--json")
    free, waiting = (json.loads(run(*arguments, *more).output) for more in ((), ("--dependent",)))
    assert waiting["schedule"]["ms"] >= free["schedule"]["ms"]
    assert waiting["critical_path"]["ms"] > free["critical_path"]["ms"]


def test_packs_of_different_encoders(packs, tmp_path):
    other = make_encoder(seed=1)
    stranger = save_pack(tmp_path / "other", make_task(other, Policy("ppf", "pff")), other)
    result = run(*packs, stranger)
    assert result.exit_code == 2
    assert "was trained on another encoder" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give at least one task pack"),
        (("--policy", "nothing"), "neither a file nor a preset"),
        (("--policy", "fig2b", "--copies", 0), "copies must be at least 1"),
        (("--policy", "fig2b", "--seq-len", 0), "must be positive"),
        (("--policy", "fig2b", "--streams", 0), "streams must be at least 1"),
        (("--policy", "fig2b", "--encoder", "minilm-l6"), "one per layer of the encoder"),
        (("here", "--policy", "fig2b"), "packs or --policy, not both"),
    ],
)
def test_wrong_arguments(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
