"""bench/gpu without a GPU: it says what is missing, and everything but the device works."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.gpu import check, microbench
from bench.gpu.problems import Maker
from tests.tolerances import assert_close

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("command", [["--arch"], ["--slug"]])
def test_says_that_there_is_no_gpu(command):
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu.device", *command],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is needed" in done.stderr
    assert "Nothing was measured" in done.stderr


def small_problems():
    return list(check.cases(Maker(CPU, torch.float32), small=True))


def test_problems_agree_with_float64():
    for problem in small_problems():
        assert_close(problem.run(), problem.exact().float())
        assert problem.bytes > 0


def test_peers_compute_the_same():
    for problem in small_problems():
        if problem.op != "cls_tail":
            continue
        assert_close(problem.peers["chain with merged weights"](), problem.exact().float())


def test_every_case_can_be_made():
    assert len(microbench.cases()) >= 10
    problem = microbench.cases()[1][1](Maker(CPU, torch.bfloat16))
    assert problem.run().shape == problem.low().shape


def test_gradients_are_checked():
    passed, error, why = check.gradients(Maker(CPU, torch.float32))
    assert passed, why
    assert error < 1e-4


def test_table_has_a_line_per_row():
    row = {"op": "bias_gelu", "shape": {"T": 1}, "dtype": "bfloat16", "us": 2.0, "launches": 1}
    row |= {"percent_of_copy": 71.0, "peers": {"torch": 5.0, "other": "fails: no"}}
    assert "| bias_gelu | T=1 | bfloat16 | 2.0 | 71 | 1 | torch 2.50×, other fails: no |" in (
        microbench.table([row])
    )
