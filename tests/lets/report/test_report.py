"""`lets report`: one page from packs, runs and a trace; what it says is what was stored."""

import json
import re
import struct

import pytest
from lets.cli import app
from lets.files import write_json
from lets.pack import save_pack
from lets.policy import Policy
from lets.report.build import build_report
from lets.report.page import report_html
from typer.testing import CliRunner

from tests.models import make_encoder, make_task

WORDS = {"cheap": ("ppp", "fff"), "dear": ("pff", "fff"), "no & yes": ("ppf", "pff")}


def run(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture(scope="module")
def packs(tmp_path_factory):
    folder, encoder = tmp_path_factory.mktemp("packs"), make_encoder()
    return [
        save_pack(
            folder / name, make_task(encoder, Policy(*word), seed=i, name=name.replace(" & ", "-")),
            encoder, results={"dev accuracy": 0.8 + 0.05 * i},
        )
        for i, (name, word) in enumerate(WORDS.items())
    ]  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    """What `lets fit` leaves of a search of `cheap`, and of its full fine-tuning."""
    entry = {"temperature": 4.0, "expected_gflop": 1.0, "p_pool": [1.0, 1.0, 1.0]}
    history = [
        {**entry, "epoch": 0.5, "p_input": [0.0, 0.5, 0.5]},
        {**entry, "epoch": 1.0, "p_input": [0.0, 0.1, 0.2]},
    ]
    lets, inputs = tmp_path / "cheap" / "lets", {"data": "d1", "name": "cheap"}
    for path, stage, result in (
        (lets / "search" / "result.json", "search", {"history": history}),
        (lets / "finetune" / "result.json", "finetune", {}),
        (lets / "pack.json", "pack", {}),
        (tmp_path / "cheap" / "full" / "result.json", "full", {"dev_score": 0.9}),
    ):
        write_json(path, {"stage": stage, "inputs": inputs, "result": result})
    return tmp_path


@pytest.fixture
def trace(tmp_path):
    op = {"ph": "X", "cat": "cpu_op", "tid": 1}
    events = [
        {**op, "name": "aten::linear", "ts": 1000, "dur": 500},
        {**op, "name": "aten::addmm", "ts": 1100, "dur": 300},  # inside the one before
        {**op, "name": "lets_ext::delta_qkv", "ts": 1600, "dur": 250},
        {"ph": "M", "name": "process_name"},
    ]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": events}))
    return path


def test_page(packs, runs, trace, tmp_path):
    page = tmp_path / "report.html"
    result = run(*packs, "-o", page, "--run", runs, "--trace", trace, "--json")
    assert result.exit_code == 0, result.output
    data, text = json.loads(result.stdout), page.read_text()
    for name in ("architecture", "operations", "parameters", "pareto", "density", "mask-dear",
                 "search-cheap", "timeline"):  # fmt: skip
        assert name in data["pictures"]
    assert data["timeline_ms"] == {"products with frozen weights": 0.5, "sparse deltas": 0.25}
    assert data["full_fine_tuning"] == {"cheap": 0.9}
    assert [task["cases"] for task in data["tasks"]] == [
        [str(case) for case in Policy(*word).cases] for word in WORDS.values()
    ]
    assert data["tasks"][2]["density"]["query"][0] is None
    assert data["tasks"][1]["density"]["out"][0] == pytest.approx(0.1, abs=0.05)
    # One file: nothing is loaded from anywhere.
    assert not re.search(r"<script|<link|@import|url\(|src=", text)
    assert set(re.findall(r"https?://[^\"']*", text)) == {"http://www.w3.org/2000/svg"}
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text


def test_variants(tmp_path):
    """LeTS-(p) pools its last layer alone; LeTS-(c) has no mask to show."""
    encoder = make_encoder()
    tasks = {v: make_task(encoder, Policy("ppf", "fpf"), name=v, variant=v) for v in ("p", "c")}
    paths = [save_pack(tmp_path / v, task, encoder) for v, task in tasks.items()]
    report = build_report(paths)
    assert "mask-p" in report.pictures
    assert "mask-c" not in report.pictures
    pooled = [
        shape.title
        for shape in report.pictures["architecture"].shapes
        if getattr(shape, "title", "").startswith("pools")
    ]
    assert pooled == ["pools x^f_2", "pools x^f_0", "pools x^p_1", "pools x^f_2"]
    assert report_html(report).startswith("<!doctype html>")


def test_png_of_every_picture(packs, tmp_path):
    pytest.importorskip("matplotlib")
    folder = packs[0].parent  # that holds them all
    result = run(folder, "-o", tmp_path / "r.html", "--png", tmp_path / "png", "--json")
    assert result.exit_code == 0, result.output
    files = {path.stem: path for path in (tmp_path / "png").iterdir()}
    assert set(files) == set(json.loads(result.stdout)["pictures"])
    for path in files.values():
        header = path.read_bytes()[:24]
        assert header.startswith(b"\x89PNG")
        assert min(struct.unpack(">II", header[16:])) > 100


def test_what_is_not_there(packs, tmp_path):
    page = tmp_path / "r.html"
    for arguments, message in (
        (("--run", tmp_path / "none"), "folder not found"),
        (("--run", tmp_path), "holds no finished run"),
        (("--trace", tmp_path / "none.json"), "cannot be read"),
        (("--encoder", "bert-base"), "other sizes than bert-base"),
        (("--seq-len", "0"), "seq-len must be at least 1, got 0"),
    ):
        result = run(*packs, "-o", page, *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
    (tmp_path / "file").touch()
    assert run(*packs, "-o", page, "--png", tmp_path / "file").exit_code == 2
    assert not page.exists()
