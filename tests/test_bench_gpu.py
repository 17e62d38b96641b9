"""bench/gpu without a GPU: it says what is missing, and everything but the device works."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.gpu import check, microbench
from bench.gpu.problems import Maker, joined
from tests.tolerances import assert_close

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_says_that_there_is_no_gpu():
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu.device", "--arch"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is needed" in done.stderr
    assert "Nothing was measured" in done.stderr


def test_building_by_hand_defines_what_cmake_does():
    info = (ROOT / "CMakeLists.txt").read_text().partition("set(BUILD_INFO")[2].partition(")\n")[0]
    names = re.findall(r"(LETS_\w+)=", info)
    assert len(names) >= 5
    source = (ROOT / "bench" / "gpu" / "build.py").read_text()
    assert not [name for name in names if f"-D{name}=" not in source]


def small_problems(dtype=torch.float32):
    return [make(Maker(CPU, dtype)) for make in check.cases(small=True)]


def test_problems_agree_with_float64():
    for problem in small_problems():
        assert_close(joined(problem.run()), problem.exact().float())
        assert problem.bytes > 0


@pytest.mark.parametrize("dtype", check.DTYPES, ids=str)
def test_results_and_gradients_are_checked(dtype):
    for make in check.cases(small=True):
        row, wrong = check.check(make, Maker(CPU, dtype), with_gradients=True)
        assert not wrong, row
        assert row["op"] == "cls_tail_layers" or row["max_rel_err_of_gradients"] >= 0


def test_a_problem_that_fails_is_a_row():
    def broken(maker, tasks):
        raise RuntimeError("no such kernel")

    from functools import partial

    row, wrong = check.check(partial(broken, tasks=2), Maker(CPU, torch.float32), True)
    assert row["op"] == "broken"
    assert wrong == ["RuntimeError: no such kernel"]


def test_peers_compute_the_same():
    for problem in small_problems():
        for name in ("chain with merged weights", "cls_tail per layer"):
            if name in problem.peers:
                peer = problem.peers[name]()
                assert_close(joined(peer), problem.exact().float())


def test_every_case_can_be_made():
    assert len(microbench.cases()) >= 10
    problem = microbench.cases()[1][1](Maker(CPU, torch.bfloat16))
    assert problem.run().shape == problem.low().shape


def test_table_has_a_line_per_row():
    row = {"op": "bias_gelu", "shape": {"T": 1}, "dtype": "bfloat16", "us": 2.0, "launches": 1}
    row |= {"percent_of_copy": 71.0, "peers": {"torch": 5.0, "other": "fails: no"}}
    assert "| bias_gelu | T=1 | bfloat16 | 2.0 | 71 | 1 | torch 2.50×, other fails: no |" in (
        microbench.table([row])
    )


def test_the_script_runs_dry(tmp_path):
    environment = {"OUT": str(tmp_path), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "bench/gpu/run.sh", "--dry-run"],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    summary = (tmp_path / "summary.txt").read_text()
    assert "check: exit 0" in summary
    assert "microbench: exit 0" in summary
    rows = json.loads((tmp_path / "ops.json").read_text())["rows"]
    assert {row["op"] for row in rows} >= {"delta_qkv", "cls_tail", "cls_attention"}
    fields = {"op", "shape", "dtype", "us", "bytes", "percent_of_copy", "peers", "max_rel_err"}
    assert all(fields <= set(row) for row in rows)
    assert not any(row["wrong"] for row in json.loads((tmp_path / "check.json").read_text()))


def test_a_part_that_fails_stops_no_other(tmp_path):
    environment = {"OUT": str(tmp_path), "PYTHON": sys.executable, "LIMIT": "4"}
    done = subprocess.run(
        ["bash", "bench/gpu/run.sh", "--dry-run"],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert (tmp_path / "summary.txt").read_text().count("left out, no time") == 2
