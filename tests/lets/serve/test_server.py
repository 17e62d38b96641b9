"""How the server starts, ends, and what it writes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from lets.encoder import Encoder
from lets.errors import LetsError
from lets.pack import save_pack
from lets.policy import Policy
from lets.serve import require_extra
from lets.serve.server import Server
from lets.serve.service import Service
from lets.serve.settings import ServeSettings
from lets.serve.threads import in_passing

from tests.lets.serve.raw import connected, read_all, read_one, request, status_of
from tests.lets.serve.serving import make_engine, make_tasks, running
from tests.lets.serve.slow_engine import SlowEngine
from tests.models import make_encoder, make_task, save_bert

ROOT = Path(__file__).resolve().parents[3]


def _threads():
    return len(os.listdir("/proc/self/task"))


def test_drain_finishes_what_is_under_way():
    encoder = make_encoder()
    engine = SlowEngine(encoder, make_tasks(encoder))
    with (
        running(engine, drain_timeout=10) as server,
        ThreadPoolExecutor(2) as pool,
        engine.held(),
    ):
        answer = pool.submit(server.post, "/topic/predict", {"inputs": "red"})
        assert engine.started.wait(10)
        waiting = pool.submit(server.post, "/topic/predict", {"inputs": "blue"})
        while not server.service.batcher.waiting:
            time.sleep(0.005)
        server.stop()
        time.sleep(0.4)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.server.port), timeout=2)
        engine.go.set()
        assert answer.result()[0] == waiting.result()[0] == 200
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_a_connection_that_is_open_is_told():
    encoder = make_encoder()
    engine = SlowEngine(encoder, make_tasks(encoder))
    with running(engine) as server, connected(server.server.port) as connection:
        connection.sendall(request("/topic/predict", {"inputs": "red"}, length=500)[:-5])
        while not server.service.metrics.in_flight._value.get():
            time.sleep(0.005)
        server.service.draining = True
        assert server.ask("GET", "/health")[0] == 503
        status, _, headers = server.ask("POST", "/topic/predict", {"inputs": "red"})
        assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "1")


def test_answers_wait_for_no_acknowledgement():
    """Without TCP_NODELAY the body of an answer may come 40 ms after its headers."""
    with running() as server, connected(server.server.port) as connection:
        connection.sendall(request("/topic/predict", {"inputs": "red"}))
        assert read_one(connection) == 200
        (protocol,) = server.server._servers[0].server_state.connections
        accepted = protocol.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads of Linux")
def test_workers_end_with_what_computes_in_passing():
    """Threads of OpenMP that stay behind slow every later call of the engine down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = _threads()
        assert in_passing(lambda: bool((torch.rand(1 << 20).exp() > 0).all()))
        deadline = time.monotonic() + 5
        while _threads() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert _threads() <= before
    finally:
        torch.set_num_threads(threads)


def test_drain_ends_in_bounded_time():
    encoder = make_encoder()
    engine = SlowEngine(encoder, make_tasks(encoder))
    with (
        running(engine, drain_timeout=1) as server,
        ThreadPoolExecutor(1) as pool,
        engine.held(),
    ):
        with connected(server.server.port) as connection:
            connection.sendall(request("/topic/predict", {"inputs": "red"}))
            assert engine.started.wait(10)
            pool.submit(lambda: (time.sleep(2.5), engine.go.set()))
            begun = time.monotonic()
            server.stop()
            answer = read_all(connection)
            assert time.monotonic() - begun < 6
        assert answer == b"" or status_of(answer) >= 500
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_wrong_settings():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LetsError, match=f"cannot listen on 127.0.0.1:{port}"):
            Server(Service(make_engine(), ServeSettings(port=port)))
    for name in ("port", "admin_port"):
        with pytest.raises(LetsError, match=f"serve: {name} must be at most 65535, got 70000"):
            ServeSettings(**{name: 70000})
    with pytest.raises(LetsError, match=r"must hold the longest text of tiny-bert \(48 tokens\)"):
        Service(make_engine(), ServeSettings(max_batch_tokens=40))


def test_a_missing_extra_is_named(monkeypatch):
    import lets.serve

    monkeypatch.setitem(lets.serve._NEEDED, "no_such_module", "no-such-package")
    with pytest.raises(LetsError, match=r"needs no-such-package.*pip install 'lets-ext\[serve\]'"):
        require_extra()


def test_the_command_answers_logs_no_text_and_ends_on_sigterm(tmp_path):
    folder = save_bert(tmp_path)
    encoder = Encoder.from_pretrained(folder)
    task = make_task(encoder, Policy("ppf", "pff"), name="tone")
    save_pack(tmp_path / "packs" / "tone", task, encoder)
    command = [sys.executable, "-m", "lets", "serve", str(tmp_path / "packs"), "--encoder",
               str(folder), "--port", "0", "--mode", "serial"]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'python'}"},
    )  # fmt: skip
    try:
        lines = [json.loads(process.stderr.readline())]
        while lines[-1]["event"] != "ready":
            lines.append(json.loads(process.stderr.readline()))
        with connected(lines[-1]["port"]) as connection:
            connection.sendall(request("/predict", {"inputs": "a secret house"}))
            assert read_one(connection) == 200
            connection.sendall(b"GET /secret/house?text=secret HTTP/1.1\r\nhost: secret\r\n\r\n")
            assert read_one(connection) == 404
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=20)[1]
    finally:
        process.kill()
    assert process.returncode == 0
    lines += [json.loads(line) for line in rest.splitlines()]
    assert "secret" not in json.dumps(lines)
    by_event = {line["event"]: line for line in lines if line.get("route") != "none"}
    assert {"ready", "request", "stopping", "stopped"} <= set(by_event)
    found = by_event["request"]
    assert (found["route"], found["status"], found["texts"], found["tokens"]) == (
        "/predict", 200, 1, 5,
    )  # fmt: skip
