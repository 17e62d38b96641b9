"""Keys: every route but /health asks for one, if it is set; what guards an admin port without."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Any

from lets.serve.errors import ApiError, send_error
from lets.serve.settings import LOOPBACK

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


class LocalNames:
    """ASGI middleware of a port that asks for no key: its clients must call it by a loopback name.

    A page of another site cannot: its name, pointed at this machine (DNS rebinding), is in `Host`.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            name = host if host.endswith("]") else host.rpartition(":")[0] or host
            if name.strip("[]").lower() not in LOOPBACK:
                scope["lets.reason"] = "host"
                message = f"without a key this port is called {', '.join(LOOPBACK)} only"
                await send_error(send, ApiError(403, "Unauthorized", "host", message))
                return
        await self.app(scope, receive, send)


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
