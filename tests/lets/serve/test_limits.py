"""What is refused, cancelled or cut off, so that no client takes more than its share."""

import asyncio
import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lets.serve.connections import Ending

from tests.lets.serve.raw import connected, hang_up, read_all, read_one, request, status_of
from tests.lets.serve.serving import make_tasks, running
from tests.lets.serve.slow_engine import SlowEngine
from tests.models import make_encoder


@pytest.fixture(scope="module")
def held():
    """A server whose engine can be held, with room for little."""
    encoder = make_encoder()
    engine = SlowEngine(encoder, make_tasks(encoder))
    with running(
        engine, max_queue=4, max_concurrent_requests=5, max_connections=12, payload_limit=2000,
        body_timeout=0.4, header_timeout=0.4, request_timeout=20, batch_wait_ms=0,
    ) as server:  # fmt: skip
        yield server


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_full_queue_refuses_with_429(held):
    with ThreadPoolExecutor(8) as pool, held.engine.held():
        first = pool.submit(held.post, "/topic/predict", {"inputs": "red"})
        assert held.engine.started.wait(10)
        waiting = [pool.submit(held.post, "/topic/predict", {"inputs": ["a", "the", "old"]})]
        wait_until(lambda: held.service.batcher.waiting == 3)
        status, found, headers = held.ask("POST", "/topic/predict", {"inputs": ["one", "two"]})
        assert (status, found["error_type"]) == (429, "Overloaded")
        assert "at most 4 may" in found["error"]
        assert 1 <= int(headers["retry-after"]) <= 60
        waiting.append(pool.submit(held.post, "/topic/predict", {"inputs": "new"}))
        wait_until(lambda: held.service.batcher.waiting == 4)
        held.engine.go.set()
        assert [f.result()[0] for f in (first, *waiting)] == [200, 200, 200]
    assert [rows for rows, _ in held.engine.calls] == [1, 4]
    assert held.metric('lets_requests_refused_total{reason="queue"}') == 1
    assert held.metric("lets_queue_texts") == 0


def test_too_many_requests_at_once(held):
    with ThreadPoolExecutor(8) as pool, held.engine.held():
        ask = ("/topic/predict", {"inputs": "red"})
        answers = [pool.submit(held.post, *ask)]
        assert held.engine.started.wait(10)
        answers += [pool.submit(held.post, *ask) for _ in range(4)]
        wait_until(lambda: held.service.batcher.waiting == 4)
        status, found, headers = held.ask("POST", "/topic/predict", {"inputs": "red"})
        assert (status, headers["retry-after"]) == (429, "1")
        assert "5 requests are being answered" in found["error"]
        assert held.ask("GET", "/health")[0] == 200
        held.engine.go.set()
        assert {f.result()[0] for f in answers} == {200}


@pytest.mark.parametrize("item", ["3", "[]", "[3]", "null", "{}"])
def test_long_lists_of_what_is_no_text_are_refused_at_once(served, item):
    """Checking a body is the event loop's work: nobody else is answered meanwhile."""
    items = ",".join([item] * (800_000 // (len(item) + 1)))
    for body in (f'{{"inputs": [{items}]}}', f'{{"inputs": "a", "tasks": [{items}]}}'):
        begun = time.monotonic()
        assert served.ask("POST", "/v1/classify", body=body.encode())[0] == 422
        assert time.monotonic() - begun < 4


def test_large_bodies(held):
    text = "a" * 3000
    assert held.ask("POST", "/topic/predict", {"inputs": text})[0] == 413
    with connected(held.server.port) as connection:  # the length is not told
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        connection.sendall(b"bb8\r\n" + text.encode() + b"\r\n")
        answer = read_all(connection)
    assert status_of(answer) == 413
    assert b"at most 2000 bytes" in answer
    with connected(held.server.port) as connection:
        connection.sendall(request("/predict", {}, length=10**30))
        assert status_of(read_all(connection)) in (400, 413)


def test_slow_bodies_and_headers(held):
    with connected(held.server.port) as connection:
        connection.sendall(request("/topic/predict", {"inputs": "red"}, length=500))
        begun = time.monotonic()
        assert status_of(read_all(connection)) == 408
        assert time.monotonic() - begun < 5
    for start in (b"", b"POST /predict HTTP/1.1\r\nho"):
        with connected(held.server.port) as connection:
            connection.sendall(start)
            begun = time.monotonic()
            assert read_all(connection) == b""
            assert time.monotonic() - begun < 5
    assert held.metric('lets_requests_refused_total{reason="slow_body"}') == 1


def test_slow_headers_of_a_second_request(held):
    with connected(held.server.port) as connection:
        connection.sendall(request("/topic/predict", {"inputs": "red"}))
        assert read_one(connection) == 200
        time.sleep(0.6)  # an idle connection may stay longer than headers may take
        connection.sendall(request("/topic/predict", {"inputs": "red"}))
        assert read_one(connection) == 200
        connection.sendall(b"POST /predict HTTP/1.1\r\nho")
        assert read_all(connection) == b""


def test_clients_that_read_nothing():
    """They lose their place: neither an answer's time nor a closed connection waits for them."""
    limits = {"request_timeout": 0.4, "keep_alive": 1}
    with running(**limits) as server, contextlib.ExitStack() as clients:
        open_ones = server.server._servers[0].server_state.connections
        for _ in range(3):
            client = clients.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(("127.0.0.1", server.server.port))
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 1200)
        wait_until(lambda: len(open_ones) == 3)
        wait_until(lambda: not open_ones, 20)


def test_a_closed_connection_waits_for_no_client():
    async def close_with_something_unread():
        loop, lost = asyncio.get_running_loop(), asyncio.Event()
        ours, theirs = socket.socketpair()
        protocol = type("Peer", (asyncio.Protocol,), {"connection_lost": lambda *_: lost.set()})
        with ours, theirs:
            transport, _ = await loop.create_connection(protocol, sock=ours)
            transport.write(b"x" * (1 << 24))
            Ending(transport, loop, 0.1).close()
            await asyncio.wait_for(lost.wait(), 10)

    asyncio.run(close_with_something_unread())


def test_large_headers(held):
    with connected(held.server.port) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nx-many: " + b"a" * 200_000)
        answer = read_all(connection)
    assert answer == b"" or status_of(answer) in (400, 431)


def test_connections_are_counted(held):
    sockets = []
    try:
        for _ in range(40):
            with contextlib.suppress(ConnectionError):
                sockets.append(socket.create_connection(("127.0.0.1", held.server.port)))
        wait_until(lambda: 0 < len(held.server._servers[0].server_state.connections) <= 12)
    finally:
        for connection in sockets:
            connection.close()
    wait_until(lambda: not held.server._servers[0].server_state.connections)
    assert held.ask("GET", "/health")[0] == 200


def test_a_client_that_hangs_up_leaves_the_queue(held):
    with ThreadPoolExecutor(2) as pool, held.engine.held():
        first = pool.submit(held.post, "/topic/predict", {"inputs": "red"})
        assert held.engine.started.wait(10)
        for leave in (hang_up, lambda connection: connection.close()):
            with connected(held.server.port) as connection:
                connection.sendall(request("/topic/predict", {"inputs": ["a", "b", "c"]}))
                wait_until(lambda: held.service.batcher.waiting == 3)
                leave(connection)
                wait_until(lambda: held.service.batcher.waiting == 0)
        held.engine.go.set()
        assert first.result()[0] == 200
    wait_until(lambda: held.service.metrics.in_flight._value.get() == 0)
    assert [rows for rows, _ in held.engine.calls] == [1]
    assert held.metric('lets_requests_refused_total{reason="disconnected"}') == 2


def test_a_request_s_time_is_bounded():
    encoder = make_encoder()
    engine = SlowEngine(encoder, make_tasks(encoder))
    with running(engine, request_timeout=0.3) as server:
        with engine.held():
            status, found, headers = server.ask("POST", "/topic/predict", {"inputs": "red"})
        assert (status, headers["retry-after"]) == (503, "1")
        assert "no answer within 0.3 s" in found["error"]
        wait_until(lambda: server.post("/topic/predict", {"inputs": "red"})[0] == 200)


def test_other_content_types(held):
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = held.ask("POST", "/topic/predict", {"inputs": "a"}, headers={"content-type": kind})
        assert answer[0] == 415


def test_a_failing_engine_call_fails_its_requests_alone(held, monkeypatch):
    def fail(call):
        raise RuntimeError("a red house")  # a text that must not reach the client or the log

    with monkeypatch.context() as patch:
        patch.setattr(held.service.batcher, "_forward", fail)
        status, found = held.post("/topic/predict", {"inputs": "red"})
    assert (status, found["error_type"]) == (503, "Backend")
    assert "house" not in found["error"]
    assert held.post("/topic/predict", {"inputs": "red"})[0] == 200
