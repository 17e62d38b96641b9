"""Connections that cost nothing to keep open are counted and timed too."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded_protocol(
    max_connections: int, header_timeout: float, read_timeout: float
) -> type[H11Protocol]:
    """uvicorn's protocol, which lets no connection wait for its headers for ever, nor for its
    client to read what was written.

    h11 itself bounds the bytes of headers, and uvicorn the time between requests.
    """

    class Bounded(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None
        _paused: asyncio.TimerHandle | None = None  # while the client's side of the wire is full
        _after: object = ()  # the request that had been answered when the deadline was set

        def connection_made(self, transport: Any) -> None:
            transport = Ending(transport, self.loop, read_timeout)
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                transport.abort()
            else:
                self._await_headers()

        def data_received(self, data: bytes) -> None:
            if self.cycle is not None and self.cycle.response_complete:
                self._await_headers()
            super().data_received(data)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._paused = self.loop.call_later(read_timeout, self.transport.abort)

        def resume_writing(self) -> None:
            self._resume()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel()
            self._resume()
            super().connection_lost(exc)

        def _await_headers(self) -> None:
            if self._after is not self.cycle:
                self._cancel()
                self._after = self.cycle
                self._deadline = self.loop.call_later(header_timeout, self._close_if_none_came)

        def _close_if_none_came(self) -> None:
            if self.cycle is self._after:
                self.transport.abort()

        def _cancel(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()

        def _resume(self) -> None:
            if self._paused is not None:
                self._paused.cancel()

    return Bounded


class Ending:
    """A transport; closed, it waits so many seconds for its client to read what was written.

    asyncio's own waits for ever: a client that reads nothing would keep its place.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._transport, self._loop, self._seconds = transport, loop, seconds

    def close(self) -> None:
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(self._seconds, self._transport.abort)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
