"""Connections that cost nothing to keep open are counted and timed too."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def bounded_protocol(max_connections: int, header_timeout: float) -> type[H11Protocol]:
    """uvicorn's protocol, which lets no connection wait for its headers for ever.

    h11 itself bounds the bytes of headers, and uvicorn the time between requests.
    """

    class Bounded(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None
        _after: object = ()  # the request that had been answered when the deadline was set

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                transport.abort()
            else:
                self._await_headers()

        def data_received(self, data: bytes) -> None:
            if self.cycle is not None and self.cycle.response_complete:
                self._await_headers()
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel()
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

    return Bounded
