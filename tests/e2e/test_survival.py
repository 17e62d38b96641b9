"""Training that is killed, runs out of disk or is read-only; `make soak` does it for long.

Each runs in a process of its own, which forks: a fork of the tests' process would inherit threads.
"""

import json
import os
import subprocess
import sys

import pytest


def soak(module, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-m", f"tests.soak.{module}", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_killed_runs_end_with_the_same_pack():
    found = soak("kills", 4)
    assert found["kills"] == 4
    assert found["resumed_to_equal_packs"] >= 2


@pytest.mark.skipif(sys.platform != "linux", reason="limits and mounts of Linux")
def test_failing_disks_end_with_one_line_and_lose_nothing():
    assert soak("disks", 2)["files_at_their_limit"] == 2
