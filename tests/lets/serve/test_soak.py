"""A short run of the load test: every answer right, every bad client treated as it should be."""

import asyncio
import os

from lets.run.engine import Engine

from bench.serve.bad_clients import KINDS
from bench.serve.problem import small_encoder, small_tasks
from bench.serve.soak import SETTINGS, Soak
from tests.lets.serve.serving import running


def test_a_few_hundred_requests(tmp_path):
    encoder = small_encoder()
    tasks = small_tasks(encoder)
    engine = Engine(encoder, [tasks[name] for name in ("t0", "t1", "t2", "pairs")])
    settings = {**SETTINGS, "header_timeout": 0.5, "body_timeout": 0.5}
    with running(engine, **settings) as server:
        ports = {"port": server.server.port, "admin_port": server.server.admin_port}
        # The process holds the clients too: whether memory grows is for the long run.
        soak = Soak({**ports, "pid": os.getpid()}, tmp_path, 300, 20, pause=0.5, memory_limit=10)
        result = asyncio.run(soak.run(8))
    assert result["failures"] == {}
    assert result["answers_checked"] > 0  # how many there are in the time is the machine's affair
    assert set(result["statuses"]) <= {"200", "404"}
    assert result["task_changes"]["PUT"] > 0
    assert set(result["bad_clients"]) <= set(KINDS)
