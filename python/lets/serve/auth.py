"""Keys: every route but /health asks for one, where one is set."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any

from lets.serve.errors import ApiError, send_error

OPEN = "/health"


class Auth:
    """ASGI middleware. `Authorization: Bearer <key>`, or Basic with the key as the password.

    Basic lets a browser open the page: it asks its user, and sends the key with the page's calls.
    """

    def __init__(self, app: Any, key: str | None) -> None:
        self.app = app
        self._digest = None if key is None else _digest(key.encode())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] != OPEN and not self._allows(scope):
            scope["lets.reason"] = "unauthorized"
            error = ApiError(401, "Unauthorized", "unauthorized", "a valid API key is required")
            await send_error(send, error, {"www-authenticate": 'Basic realm="lets"'})
            return
        await self.app(scope, receive, send)

    def _allows(self, scope: Any) -> bool:
        if self._digest is None:
            return True
        given = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                given = _key(value)
        # Digests have one length, so not even the key's length shows in the time.
        return hmac.compare_digest(_digest(given), self._digest)


def _key(header: bytes) -> bytes:
    scheme, _, value = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
