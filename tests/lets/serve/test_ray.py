"""The Ray Serve application on a local cluster: two replicas, one of them killed."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

pytestmark = pytest.mark.slow

# In a process of its own: a Ray cluster outlives a fixture's failure otherwise.
_CLUSTER = """
import os, sys, time
import ray
from ray import serve
from lets.serve.ray import Arguments, app

encoder, pack, port = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,
         object_store_memory=80 * 2**20)
serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
serve.run(app(Arguments(encoder=encoder, packs=pack, num_replicas=2, mode="serial")))
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


def free_port():
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def post(port, path, body):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def replicas():
    """Process ids of the replicas, by the name that Ray gives to them."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    name = file.read()
            except OSError:
                continue
            if name.startswith(b"ray::ServeReplica:default:Tasks"):
                found.append(int(entry))
    return found


@pytest.mark.timeout(900)
def test_two_replicas_one_killed(tmp_path):
    pytest.importorskip("ray.serve")
    from lets.encoder import Encoder
    from lets.pack import save_pack
    from lets.policy import Policy
    from lets.run.engine import Engine

    from tests.models import make_task, save_bert

    folder = save_bert(tmp_path / "encoder")
    encoder = Encoder.from_pretrained(folder)
    pack = save_pack(tmp_path / "pack", make_task(encoder, Policy("pff", "pff"), name="t"), encoder)
    port, before = free_port(), set(replicas())
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", _CLUSTER, str(folder), str(pack), str(port)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as cluster:
        for line in cluster.stdout:
            if line.strip() == "ready":
                break
        assert cluster.poll() is None
        expected = Engine(encoder, [load(pack, encoder)])(["the small house"])["t"]
        body = {"inputs": "the small house", "task": "t"}
        first = post(port, "/predict", body)
        assert first[0]["label"] == expected.labels[0]
        assert first[0]["score"] == pytest.approx(float(expected.scores[0]), abs=1e-4)
        mine = sorted(set(replicas()) - before)
        assert len(mine) == 2
        os.kill(mine[0], signal.SIGKILL)
        failed = 0
        for _ in range(40):
            try:
                assert post(port, "/predict", body) == first
            except (urllib.error.URLError, ConnectionError):
                failed += 1  # the request that was on its way to the dead replica
        assert failed <= 3
        deadline = time.monotonic() + 300
        while len(set(replicas()) - before - {mine[0]}) < 2:  # Ray starts another one
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert post(port, "/v1/classify", {"inputs": ["the small house"]})["results"]
        cluster.stdin.close()
        cluster.wait(timeout=120)


def load(pack, encoder):
    from lets.pack import load_pack

    return load_pack(pack, encoder)
