"""`lets bench` on tiny encoders: what it prints, what it refuses, no ratio for wrong answers."""

import json

import pytest
from lets.bench import run as bench_run
from lets.bench.check import Difference
from lets.cli import app
from lets.pack import save_pack
from typer.testing import CliRunner

from tests.models import make_mpnet, make_task, make_tokenizer
from tests.tiny import save_tiny_bert

KEYS = {
    "baseline", "tasks", "batch", "seq_len", "baseline_ms", "lets_ms", "ratio", "flop_ratio",
    "max_abs_diff",
}  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


@pytest.fixture
def tiny(tiny_folder):
    """Options of a run that takes no time."""
    return ["--encoder", tiny_folder, "--seq-len", 8, "--rounds", 1, "--threads", 1]


def report_of(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_rows_of_all_combinations(tiny):
    report = report_of(
        *tiny, "--policy", "g-3,random+g-1", "--tasks", "1,3", "--batch", "1,2", "--density", 0.1
    )
    rows = report["rows"]
    assert set(rows[0]) >= KEYS
    points = {(r["policy"], r["tasks"], r["batch"]) for r in rows}
    assert len(points) == len(rows) == 8
    for row in rows:
        assert row["ratio"] == pytest.approx(row["baseline_ms"] / row["lets_ms"])
        assert 0 <= row["max_abs_diff"] < 1e-4
        assert row["error"] is None
        assert not row["scaled"]
    assert {"machine", "commit", "environment", "settings", "skipped"} <= set(report)
    assert report["environment"]["threads"] == 1


def test_more_tasks_than_models_scale_the_time(tiny):
    (row,) = report_of(*tiny, "--policy", "g-3", "--tasks", 4, "--max-models", 2)["rows"]
    assert row["models"] == 2
    assert row["scaled"]


def test_stricter_baseline_promises_less(tiny):
    plain, strict = report_of(*tiny, "--policy", "g-3", "--tasks", 2, "--cls-last")["rows"]
    assert strict["baseline"] == plain["baseline"] + "-cls-last"
    assert strict["flop_ratio"] < plain["flop_ratio"]
    assert strict["baseline_max_abs_diff"] < 1e-5


def test_what_cannot_run_here_says_why(tiny):
    options = [*tiny, "--policy", "g-3", "--baselines", "cuda-graph,stacked", "--tasks", 3]
    report = report_of(*options, "--max-memory", 1e-6)
    assert report["rows"] == []
    reasons = {entry["baseline"]: entry["reason"] for entry in report["skipped"]}
    assert "needs a CUDA device" in reasons["cuda-graph"]
    assert "do not fit into" in reasons["stacked"]


def test_trace_is_a_timeline_of_ops(tiny, tmp_path):
    file = tmp_path / "new" / "trace.json"
    result = run(*tiny, "--policy", "g-3", "--tasks", 2, "--trace", file)
    assert result.exit_code == 0, result.stderr
    assert "FLOPs predict" in result.stdout
    names = {event.get("name", "") for event in json.loads(file.read_text())["traceEvents"]}
    assert any(name.startswith("lets_ext::") for name in names)


def test_real_packs(tmp_path, tiny_encoder):
    folder = save_tiny_bert(tmp_path / "encoder")
    from lets.encoder import Encoder
    from lets.policy import Policy

    encoder = Encoder.from_pretrained(folder)
    packs = [
        str(save_pack(tmp_path / f"pack-{i}", make_task(encoder, Policy(*p), seed=i), encoder))
        for i, p in enumerate([("pff", "fff"), ("ppf", "ppf")])
    ]
    (row,) = report_of(
        "--encoder", folder, "--packs", ",".join(packs), "--tasks", 3, "--seq-len", 8,
        "--rounds", 1,
    )["rows"]  # fmt: skip
    assert row["policy"] == "packs"
    result = run("--encoder", "minilm-l6", "--packs", packs[0], "--tasks", 1)
    assert result.exit_code == 2
    assert "give its folder with --encoder" in result.stderr


@pytest.mark.parametrize("wrong", ["engine", "baseline"])
def test_a_wrong_answer_has_no_ratio(tiny, monkeypatch, wrong):
    far = Difference(0.5, 0.5)
    if wrong == "engine":
        monkeypatch.setattr(bench_run.Ours, "difference", lambda *_: far)
    else:
        monkeypatch.setattr(Difference, "of", classmethod(lambda *_: far))
        monkeypatch.setattr(bench_run.Ours, "difference", lambda *_: Difference())
    result = run(*tiny, "--policy", "g-3", "--tasks", 2, "--json")
    assert result.exit_code == 1
    (row,) = json.loads(result.stdout)["rows"]
    assert row["ratio"] is row["lets_ms"] is None
    assert "5.00e-01" in row["error"]
    assert "5.00e-01" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--baselines", "magic"], "baselines must be among eager"),
        (["--baselines", ","], "baselines must hold at least one name"),
        (["--tasks", "0"], "tasks must be at least 1, got 0"),
        (["--tasks", "two"], "tasks must be whole numbers"),
        (["--batch", "1,-1"], "batch must be at least 1, got -1"),
        (["--seq-len", "33"], "seq-len must be at most 32"),
        (["--seq-len", "0"], "seq-len must be at least 1"),
        (["--policy", "fig2b"], "must have 3 letters"),
        (["--policy", "g-3+"], "must not have empty parts"),
        (["--policy", "nowhere.json"], "neither a file nor a preset"),
        (["--density", "0"], "density must be in"),
        (["--density", "0.9"], "density must be in"),
        (["--dtype", "int8"], "dtype must be one of"),
        (["--mode", "warp"], "mode must be"),
        (["--threads", "0"], "threads must be at least 1"),
        (["--seconds", "-1"], "seconds must be positive"),
        (["--encoder", "bert-huge"], "neither a built-in shape"),
        (["--device", "cuda"], "device must be cpu"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(tiny, options, message):
    result = run(*tiny, "--policy", "g-3", "--tasks", 1, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not result.stdout


def test_cls_last_is_refused_where_modules_have_other_names(tmp_path):
    make_mpnet().save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    options = ("--encoder", tmp_path, "--policy", "g-3", "--seq-len", 8, "--tasks", 1)
    result = run(*options, "--rounds", 1, "--threads", 1, "--cls-last")
    assert result.exit_code == 2
    assert "--cls-last is written for bert, electra" in result.stderr
    assert "got mpnet" in result.stderr


def test_parts_of_the_engine(tiny):
    """Every variant answers as the plain evaluation does; int8 alone does not quite."""
    report = report_of(*tiny, "--policy", "random", "--tasks", 3, "--density", 0.1, "--ablate")
    rows = {row["variant"]: row for row in report["rows"]}
    assert rows["all"]["slowdown"] == 1
    rules = [name for name in rows if name.startswith("without the rule: ")]
    assert len(rules) == 4  # the fifth changes nothing for these policies
    for name, row in rows.items():
        assert row["slowdown"] == pytest.approx(row["lets_ms"] / rows["all"]["lets_ms"])
        assert row["max_abs_diff"] < (0.5 if "int8" in name else 1e-4)
    assert (
        "without packed products" in run(*tiny, "--policy", "g-3", "--tasks", 1, "--ablate").stdout
    )


@pytest.mark.parametrize(
    "options", [["--tasks", "1,2"], ["--mode", "serial"], ["--trace", "file"], ["--batch", "1,2"]]
)
def test_parts_are_measured_at_one_point(tiny, options):
    result = run(*tiny, "--policy", "g-3", "--ablate", *options)
    assert result.exit_code == 2
    assert options[0].removeprefix("--") in result.stderr


def test_int8_rows_are_marked_as_approximate(tiny):
    options = [*tiny, "--policy", "g-3", "--tasks", 2, "--quantization", "int8"]
    (row,) = report_of(*options)["rows"]
    assert row["quantization"] == "int8"
    assert row["error"] is None
    assert 1e-5 < row["max_abs_diff"] < 0.5
    assert "(int8)" in run(*options).stdout
    refused = run(*tiny, "--quantization", "int4")
    assert refused.exit_code == 2
    assert "quantization must be int8" in refused.stderr
