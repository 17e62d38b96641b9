"""What a refused request is answered with: text-embeddings-inference's error object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# The names that text-embeddings-inference gives; clients switch on them.
VALIDATION, OVERLOADED, TOKENIZER, EMPTY, BACKEND, UNHEALTHY = (
    "Validation", "Overloaded", "Tokenizer", "Empty", "Backend", "Unhealthy",
)  # fmt: skip


class ApiError(Exception):
    """A request that is not answered, and why.

    Args:
        reason: A word for metrics and logs; never the client's.
        retry_after: Seconds after which it is worth another try.
    """

    def __init__(
        self, status: int, error_type: str, reason: str, message: str, retry_after: int = 0
    ) -> None:
        message = message.encode("utf-8", "backslashreplace").decode()  # a client's lone surrogate
        super().__init__(message)
        self.status, self.error_type, self.reason = status, error_type, reason
        self.message, self.retry_after = message, retry_after

    @property
    def body(self) -> dict[str, Any]:
        return {"error": self.message, "error_type": self.error_type}

    @property
    def headers(self) -> Mapping[str, str]:
        return {"retry-after": str(self.retry_after)} if self.retry_after else {}


async def send_error(send: Any, error: ApiError, headers: Mapping[str, str] | None = None) -> None:
    """Answer outside of any route; the rest of the request is not read, so the connection ends."""
    body = json.dumps(error.body).encode()
    sent = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "connection": "close",
        **error.headers,
        **(headers or {}),
    }
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
