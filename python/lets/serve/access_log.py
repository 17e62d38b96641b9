"""One JSON line for every request, and for what else happens; never a user's text."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any

from lets.serve.metrics import Metrics

logger = logging.getLogger("lets.serve")


class JsonFormatter(logging.Formatter):
    """Fields of a record; of an exception its class and where it was raised.

    An exception's own words may quote what a client sent, so they are left out.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage().strip(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["exception"] = type(record.exc_info[1]).__name__
            line["frames"] = [f"{f.filename}:{f.lineno} {f.name}" for f in frames[-8:]]
        return json.dumps(line)


def log_to_stderr() -> None:
    """The server's lines and uvicorn's on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("lets.serve", "uvicorn.error"):
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).propagate = False
    logger.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def event(text: str, **fields: Any) -> None:
    logger.info(text, extra={"fields": fields})


class AccessLog:
    """ASGI middleware: times, counts and logs requests by route, which names no text.

    Routes and other middleware leave in the scope what they know: `lets.reason` of a refusal,
    `lets.usage` of an answer.
    """

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 499  # the client went away before it was answered

        async def watched(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            status = 500
            raise
        finally:
            seconds = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "none")
            reason = scope.get("lets.reason")
            self.metrics.request(route, status, seconds, reason)
            if route not in ("/health", "/metrics") or status >= 400:
                event(
                    "request",
                    method=scope["method"] if scope["method"].isalpha() else "?",
                    route=route,
                    status=status,
                    ms=round(1e3 * seconds, 2),
                    **({"reason": reason} if reason else {}),
                    **scope.get("lets.usage", {}),
                )
