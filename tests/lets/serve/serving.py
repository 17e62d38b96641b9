"""A server of tiny tasks in a thread, and its clients."""

import asyncio
import contextlib
import http.client
import json
import threading
from dataclasses import dataclass
from typing import Any

from lets.plan.timing import MachineRates
from lets.policy import Policy
from lets.run.engine import Engine
from lets.serve.costs import Costs
from lets.serve.server import Server
from lets.serve.service import Service
from lets.serve.settings import ServeSettings

from tests.models import make_encoder, make_task

RATES = MachineRates(((1, 1e9), (64, 2e10), (512, 4e10)), 1e10, 1e-6)


def make_tasks(encoder):
    return [
        make_task(encoder, Policy("ppf", "pff"), seed=1, name="sentiment"),
        make_task(encoder, Policy("pff", "fff"), seed=2, name="topic", labels=("a", "b", "c")),
        make_task(encoder, Policy("ppf", "fpf"), seed=3, name="stars", labels=()),
        make_task(encoder, Policy("ppp", "fpp"), seed=4, name="same", is_pair=True),
    ]


def make_engine():
    encoder = make_encoder()
    return Engine(encoder, make_tasks(encoder))


@dataclass
class Running:
    """A server that answers, and short ways to ask it."""

    server: Server
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread

    @property
    def service(self):
        return self.server.service

    @property
    def engine(self):
        return self.service.engine

    def ask(self, method, path, value=None, *, port=None, body=None, headers=None) -> Any:
        """(status, JSON or text, headers) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.server.port, timeout=30)
        with contextlib.closing(connection):
            if body is None and value is not None:
                body = json.dumps(value).encode()
            sent = {} if body is None else {"content-type": "application/json"}
            connection.request(method, path, body, {**sent, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read().decode()
            is_json = answer.getheader("content-type", "").startswith("application/json")
            return answer.status, json.loads(text) if is_json else text, dict(answer.headers)

    def post(self, path, value, **options):
        return self.ask("POST", path, value, **options)[:2]

    def admin(self, method, path, value=None, **options):
        return self.ask(method, path, value, port=self.server.admin_port, **options)[:2]

    def stop(self):
        self.loop.call_soon_threadsafe(self.server.stop)

    def metric(self, name):
        """The value of a line of /metrics, labels and all."""
        for line in self.ask("GET", "/metrics")[1].splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return 0.0


@contextlib.contextmanager
def running(engine=None, **settings):
    """Serve on free ports until the block ends."""
    service = Service(
        engine or make_engine(),
        ServeSettings(**{"port": 0, "drain_timeout": 2, **settings}),
        Costs(make_encoder(), RATES),
    )
    server, loop, ready, failure = Server(service), asyncio.new_event_loop(), threading.Event(), []

    def run():
        try:
            loop.run_until_complete(server.run(ready.set))
        except BaseException as error:
            failure.append(error)
        finally:
            ready.set()
            loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield Running(server, loop, thread)
    finally:
        if thread.is_alive():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(server.stop)
        thread.join(15)
        assert not thread.is_alive()
        assert not failure, failure
