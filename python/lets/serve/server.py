"""Both ports in one event loop, from the first socket to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from lets.errors import LetsError
from lets.run.engine import Engine
from lets.serve.access_log import event, log_to_stderr
from lets.serve.admin import admin_app
from lets.serve.app import public_app
from lets.serve.connections import bounded_protocol
from lets.serve.service import Service
from lets.serve.settings import ServeSettings


def serve(engine: Engine, settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT; a second one does not wait for what is under way."""
    log_to_stderr()
    asyncio.run(_until_signal(Server(Service(engine, settings))))


class Server:
    """The public port, and the admin port if there is one.

    Attributes:
        port, admin_port: Those that the sockets got.
    """

    def __init__(self, service: Service) -> None:
        self.service, settings = service, service.settings
        self._sockets = [_listen(settings.host, settings.port)]
        self._servers = [_Uvicorn(_config(public_app(service), settings))]
        self.port: int = self._sockets[0].getsockname()[1]
        self.admin_port: int | None = None
        if settings.admin_port is not None:
            self._sockets.append(_listen(settings.admin_host, settings.admin_port))
            self._servers.append(_Uvicorn(_config(admin_app(service), settings)))
            self.admin_port = self._sockets[1].getsockname()[1]

    async def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Answer until `stop`."""
        await self.service.start()
        try:
            runs = [
                asyncio.ensure_future(server.serve([sock]))
                for server, sock in zip(self._servers, self._sockets)
            ]
            while not all(server.started for server in self._servers):
                await asyncio.sleep(0.01)
            settings = self.service.settings
            event("ready", host=settings.host, port=self.port, admin_port=self.admin_port)
            ready()
            await asyncio.gather(*runs)
        finally:
            await self.service.close()
            event("stopped")

    def stop(self) -> None:
        """Take no new requests, finish those under way, end; twice: end at once."""
        again, self.service.draining = self.service.draining, True
        event("stopping", waiting=self.service.batcher.waiting)
        for server in self._servers:
            server.should_exit = True
            server.force_exit = again


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Two servers share the process's signals: `_until_signal` has them."""
        yield


def _config(app: Any, settings: ServeSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=bounded_protocol(
            settings.max_connections, settings.header_timeout, settings.request_timeout
        ),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=settings.drain_timeout,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=512)
        # Accepted sockets inherit it. asyncio sets it for sockets that name TCP, as this one does
        # not; without it an answer's body waits for the acknowledgement of its headers, 40 ms.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise LetsError(
            f"serve: cannot listen on {host}:{port}: {error.strerror or error}"
        ) from error


async def _until_signal(server: Server) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.run()
