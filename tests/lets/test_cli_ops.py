import json
import subprocess
import sys

import lets
import pytest
from lets.cli import app
from lets.metrics import policy_report
from lets.policy import Policy
from lets.shape import PRESETS, EncoderShape
from typer.testing import CliRunner


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def ops_json(*arguments):
    result = run("ops", "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    assert not result.stderr
    return json.loads(result.stdout)


def test_json_has_the_keys_and_the_numbers_of_the_metrics(tmp_path):
    file = tmp_path / "a.json"
    file.write_text('{"input": "pffppppppppp", "pool": "fpppppppppff"}')
    report = ops_json(
        "--encoder", "bert-base", "--seq-len", 128, "--density", 0.005, "--accounting", "paper",
        "--policy", file, "--policy", "fig2b", "--policy", "g-3",
    )  # fmt: skip
    assert report["encoder_gflop"] == pytest.approx(22.347, abs=1e-3)
    policies = [Policy.from_json(file), Policy.preset("fig2b", 12), Policy.preset("g-3", 12)]
    result = policy_report(EncoderShape.from_name("bert-base"), policies, 128, 0.005, "paper")
    for key in (
        "overhead_percent", "total_percent", "total_params_ratio", "max_speedup",
        "schedule_speedup",
    ):  # fmt: skip
        assert report[key] == getattr(result.metrics, key)
    for task, policy, cost in zip(report["tasks"], policies, result.tasks, strict=True):
        assert task["new_gflop"] == pytest.approx(cost.total.flops / 1e9)
        assert task["new_percent"] == pytest.approx(100 * task["new_gflop"] / 22.347251712)
        assert task["new_params"] == cost.total.params
        assert task["new_params_percent"] == pytest.approx(100 * cost.total.params / 108_891_648)
        assert task["mask_percent"] == pytest.approx(100 * cost.nnz / 108_891_648)
        assert [layer["case"] for layer in task["layers"]] == list(map(str, policy.cases))
        layers = sum(layer["gflop"] for layer in task["layers"])
        assert layers + task["head_gflop"] == pytest.approx(task["new_gflop"])


def test_engine_is_the_default_accounting():
    assert ops_json("--policy", "fig2b") == ops_json("--policy", "fig2b", "--accounting", "engine")
    paper = ops_json("--policy", "fig2b", "--accounting", "paper")
    assert paper["tasks"][0]["new_gflop"] > ops_json("--policy", "fig2b")["tasks"][0]["new_gflop"]


@pytest.mark.parametrize("name", PRESETS)
def test_built_in_encoders(name):
    layers = EncoderShape.from_name(name).num_layers
    report = ops_json("--encoder", name, "--policy", "g-2", "--policy", "g-1")
    assert all(len(task["layers"]) == layers for task in report["tasks"])


def test_folder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(PRESETS["minilm-l6"]))
    report = ops_json("--encoder", tmp_path, "--policy", "g-2")
    assert report["tasks"] == ops_json("--encoder", "minilm-l6", "--policy", "g-2")["tasks"]


def test_table_for_people():
    result = run("ops", "--policy", "fig2b", "--policy", "g-3")
    assert result.exit_code == 0
    for text in ("fig2b", "g-3", "p-cls", "bypass", "27.8", "22.35 GFLOP", "max speed-up"):
        assert text in result.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"input": "pf", "pool": "ff"}',
            "12 letters, one per layer of bert-base, got 2",
        ),
        ('{"input": "pppppppppppx", "pool": "ffffffffffff"}', "got 'x' at layer 11"),
        ('{"input": "ffffffffffff", "pool": "ffffffffffff"}', "input must start with p"),
        ("input: pppp", "is not JSON"),
        ('{"input": "pppppppppppp"}', "missing 'pool'"),
        ('{"input": "pp", "pool": "pp", "x": 1}', "unknown 'x'"),
    ],
)
def test_malformed_policies_exit_with_2(text, message, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(text)
    result = run("ops", "--policy", file, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "a.json" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ops", "--policy", "absent.json"], "absent.json is neither a file nor a preset"),
        (["ops", "--policy", "g-5"], "number of groups must divide the 12 layers"),
        (["ops", "--policy", "fig2b", "--encoder", "bert-huge"], "neither a built-in shape"),
        (["ops", "--policy", "fig2b", "--encoder", "minilm-l6"], "must have 6 letters"),
        (["ops", "--policy", "fig2b", "--density", "0"], "density must be in (0, 1], got 0.0"),
        (["ops", "--policy", "fig2b", "--density", "1.5"], "density must be in (0, 1], got 1.5"),
        (["ops", "--policy", "fig2b", "--density", "few"], "Invalid value for '--density'"),
        (["ops", "--policy", "fig2b", "--seq-len", "0"], "seq-len must be at least 1, got 0"),
        (["ops", "--policy", "fig2b", "--accounting", "x"], "one of paper, engine, got 'x'"),
        (["ops", "--system", "full", "--seq-len", "0"], "seq-len must be at least 1, got 0"),
        (["ops", "--system", "full", "--density", "0"], "density must be in (0, 1], got 0.0"),
        (["ops", "--system", "full", "--num-labels", "0"], "num-labels must be at least 1, got 0"),
        (["ops"], "policy must be given at least once, or system"),
        (["ops", "--polices", "fig2b"], "No such option: --polices"),
        (["opps"], "No such command 'opps'"),
    ],
)
def test_usage_errors_are_one_line_and_exit_with_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("lets: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_version_and_help():
    assert run("--version").stdout == f"lets {lets.__version__}\n"
    for arguments in ([], ["--help"]):
        result = run(*arguments)
        assert result.exit_code == 0
        assert "ops" in result.stdout


def test_ops_needs_neither_torch_nor_the_extension():
    code = (
        "import sys\n"
        "sys.modules.update(torch=None, lets_ext=None, transformers=None, numpy=None)\n"
        "from lets.cli import app\n"
        "app(['ops', '--policy', 'fig2b', '--json'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["accounting"] == "engine"


def test_systems_side_by_side():
    names = ("full", "freeze-12", "lets-c", "lets-g4", "mobilebert")
    chosen = [word for name in names for word in ("--system", name)]
    sizes = ("--encoder", "bert-large", "--accounting", "paper", "--policy", "g-4")
    report = ops_json(*sizes, *chosen)["systems"]
    assert tuple(report) == names
    assert report["freeze-12"]["total_percent"] == pytest.approx(500)
    assert report["full"]["total_params_ratio"] == 9
    shown = run("ops", *sizes, *chosen)
    assert "500.0" in shown.stdout
    wrong = run("ops", "--system", "lets-pc")
    assert (wrong.exit_code, "need a policy" in wrong.stderr) == (2, True)
    wrong = run("ops", "--system", "magic")
    assert (wrong.exit_code, "system: must be one of" in wrong.stderr) == (2, True)
