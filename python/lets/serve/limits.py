"""What a request may take: bytes, seconds, and one of a bounded number of places."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from lets.serve.auth import OPEN
from lets.serve.errors import OVERLOADED, UNHEALTHY, VALIDATION, ApiError, send_error
from lets.serve.service import Service


class Limits:
    """ASGI middleware. Reads the whole body, bounded, before a route runs; cancels what nobody
    waits for any more."""

    def __init__(self, app: Any, service: Service) -> None:
        self.app, self.service, self.settings = app, service, service.settings
        self._in_flight = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] == OPEN:
            await self.app(scope, receive, send)
            return
        sent = _Sent(send)
        self._in_flight += 1
        self.service.metrics.in_flight.inc()
        try:
            self._check_place()
            body = await self._body(scope, receive)
            if body is not None:
                await self._answer(scope, _Replay(body), receive, sent)
        except ApiError as error:
            scope["lets.reason"] = error.reason
            if not sent.started:
                await send_error(send, error)
        finally:
            self._in_flight -= 1
            self.service.metrics.in_flight.dec()

    def _check_place(self) -> None:
        if self.service.draining:
            raise ApiError(503, UNHEALTHY, "draining", "the server is shutting down", 1)
        most = self.settings.max_concurrent_requests
        if self._in_flight > most:
            raise ApiError(
                429, OVERLOADED, "concurrency", f"{most} requests are being answered already", 1
            )

    async def _body(self, scope: Any, receive: Any) -> bytes | None:
        """The body, or None where the client has gone."""
        headers = dict(scope["headers"])
        limit = self.settings.payload_limit
        too_large = ApiError(413, VALIDATION, "body", f"the body must have at most {limit} bytes")
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 15 or int(declared) > limit:
            raise too_large
        deadline = time.monotonic() + self.settings.body_timeout
        parts, size = [], 0
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(0.001, deadline - time.monotonic()))
            except asyncio.TimeoutError:
                raise ApiError(
                    408, VALIDATION, "slow_body",
                    f"the body must arrive within {self.settings.body_timeout:g} s",
                ) from None  # fmt: skip
            if message["type"] == "http.disconnect":
                return None
            size += len(message.get("body", b""))
            if size > limit:
                raise too_large
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if size and kind != b"application/json":
            # Also what keeps other sites' pages from calling a server on a user's own machine.
            raise ApiError(
                415, VALIDATION, "content_type", "the content-type must be application/json"
            )
        return b"".join(parts)

    async def _answer(self, scope: Any, replay: _Replay, receive: Any, sent: _Sent) -> None:
        """Run the route until it has answered, its time is up, or its client has gone."""
        answer = asyncio.ensure_future(self.app(scope, replay, sent))
        gone = asyncio.ensure_future(receive())  # after the body nothing but a disconnect comes
        try:
            await asyncio.wait(
                (answer, gone),
                timeout=self.settings.request_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not answer.done() and not sent.finished:
                answer.cancel()
                await asyncio.wait((answer,))
                if not gone.done():
                    raise ApiError(
                        503, OVERLOADED, "timeout",
                        f"no answer within {self.settings.request_timeout:g} s", 1,
                    )  # fmt: skip
                scope["lets.reason"] = "disconnected"
                return
            await answer
        finally:
            answer.cancel()
            gone.cancel()


class _Replay:
    """The body that was read, for the route; then nothing more."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def __call__(self) -> dict[str, Any]:
        if self._body is None:
            await asyncio.Event().wait()  # until it is cancelled
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Sent:
    """`send`, and how far the answer is."""

    def __init__(self, send: Any) -> None:
        self._send, self.started, self.finished = send, False, False

    async def __call__(self, message: Any) -> None:
        self.started = True
        await self._send(message)
        self.finished = message["type"] == "http.response.body" and not message.get("more_body")
