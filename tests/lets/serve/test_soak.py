"""Short runs of the load test: every answer right, every bad client treated as it should be."""

import asyncio
import os

import pytest
from lets.run.engine import Engine

from bench.serve.bad_clients import KINDS
from bench.serve.kills import Kills
from bench.serve.reference import SETTINGS, Reference, Request
from bench.serve.soak import Soak
from tests.lets.serve.serving import running


@pytest.fixture(scope="module")
def reference():
    return Reference()


def test_a_few_hundred_requests(reference, tmp_path):
    served = [reference.tasks[name] for name in ("t0", "t1", "t2", "pairs")]
    settings = {**SETTINGS, "header_timeout": 0.5, "body_timeout": 0.5}
    with running(Engine(reference.encoder, served), **settings) as server:
        ports = {"port": server.server.port, "admin_port": server.server.admin_port}
        # The process holds the clients too: whether memory grows is for the long run.
        soak = Soak(
            {**ports, "pid": os.getpid()}, reference, tmp_path, 300, 20, change_every=40,
            memory_limit=10,
        )  # fmt: skip
        result = asyncio.run(soak.run(8))
    assert result["failures"] == {}
    assert result["answers_checked"] > 0  # how many there are in the time is the machine's affair
    assert set(result["statuses"]) <= {"200", "404"}
    assert result["task_changes"]["PUT"] > 0
    assert set(result["bad_clients"]) <= set(KINDS)


def test_a_killed_server_loses_what_is_under_way_and_no_more(reference):
    options = {"system": "small", "threads": 1, "settings": SETTINGS}
    result = asyncio.run(Kills(reference, options, clients=4, requests=40).run(1))
    assert result["failures"] == {}
    assert result["answered"] >= 80
    assert 1 <= result["lost_under_way"] <= 4
    assert result["refused_meanwhile"] > 0


def test_wrong_answers_are_noticed(reference):
    request = Request("/t0/predict", {"inputs": [["w1"]]}, [0])
    logits = reference.expected["t0"][0]
    labels = sorted(reference.tasks["t0"].labels)
    right = [[{"label": label, "score": score} for label, score in zip(labels, logits)]]
    assert reference.check(request, 200, right) == (1, [])
    for change in (1e-3, float("nan")):
        wrong = [[{**right[0][0], "score": logits[0] + change}, *right[0][1:]]]
        assert reference.check(request, 200, wrong) == (1, ["wrong answer of t0"])
    assert reference.check(request, 200, [])[1]
    assert reference.check(request, 200, right * 2)[1]
    assert reference.check(request, 503, "no")[1]
