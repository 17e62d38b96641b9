"""Where the server listens, who may call it, and how much it takes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from lets.errors import LetsError

API_KEY, ADMIN_KEY = "LETS_API_KEY", "LETS_ADMIN_KEY"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeSettings:
    """Counts are at least 1, times in seconds unless named otherwise.

    Args:
        admin_port: None: no admin API.
        max_concurrent_requests: Accepted and not answered yet; more are refused with 429.
        max_connections: Open sockets; more are closed.
        max_client_batch_size: Texts of one request.
        max_batch_requests, max_batch_tokens: Rows, and padded tokens, of one call of the engine.
        max_queue: Texts that wait for the engine; requests with more are refused with 429.
        batch_wait_ms: How long a free engine waits for requests that are being tokenized.
        auto_truncate: Whether longer texts are cut where a request does not say.
        header_timeout, body_timeout: From a connection's first byte awaited to the last of its
            headers, and from these to the last byte of the body.
        request_timeout: For an answer, and for a client to read what it has not read of it.
        page: Serve the page at `/` and what it calls (`/v1/compare`).
    """

    host: str = "127.0.0.1"
    port: int = 8080
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None
    api_key: str | None = field(default=None, repr=False)
    admin_key: str | None = field(default=None, repr=False)
    payload_limit: int = 1_000_000
    max_concurrent_requests: int = 512
    max_connections: int = 1024
    max_client_batch_size: int = 32
    max_batch_requests: int = 32
    max_batch_tokens: int = 4096
    max_queue: int = 1024
    batch_wait_ms: float = 2.0
    auto_truncate: bool = True
    header_timeout: float = 10.0
    body_timeout: float = 10.0
    request_timeout: float = 30.0
    keep_alive: int = 30
    drain_timeout: int = 20
    page: bool = True

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, (bool, str)) or value is None:
                continue
            least = 0 if f.name in ("port", "admin_port", "batch_wait_ms") else 1e-3
            if not least <= value <= 1 << 40 or (f.name.startswith("max_") and value < 1):
                raise LetsError(f"serve: {f.name} must be positive, got {value}")
        for variable, key in ((API_KEY, self.api_key), (ADMIN_KEY, self.admin_key)):
            if key is not None:
                _check_key(key, variable)
        if self.admin_key is not None and self.admin_key == self.api_key:
            raise LetsError(f"serve: {ADMIN_KEY} must be another one than {API_KEY}")
        for name in ("port", "admin_port"):
            if (getattr(self, name) or 0) >= 1 << 16:
                raise LetsError(f"serve: {name} must be at most 65535, got {getattr(self, name)}")
        if self.admin_port is not None and 0 != self.admin_port == self.port:
            raise LetsError(
                f"serve: admin_port must be another one than the public port, got {self.port}"
            )
        if self.admin_port is not None and self.admin_key is None:
            if self.api_key is not None:
                raise LetsError(
                    f"serve: with {API_KEY} the admin API needs a key of its own: set {ADMIN_KEY}"
                )
            if self.admin_host not in LOOPBACK:
                raise LetsError(
                    f"serve: an admin API on {self.admin_host} needs a key: set {ADMIN_KEY}"
                )


def read_key(
    variable: str, file: str | None, environment: Mapping[str, str] = os.environ
) -> str | None:
    """A key out of a file or of the environment; None: no key is asked for.

    Keys are no command-line options: other users of a machine see those.
    """
    if file is not None and environment.get(variable):
        raise LetsError(f"serve: give {variable} or a key file, not both")
    if file is None:
        if variable not in environment:
            return None
        key, source = environment[variable], variable
    else:
        try:
            key, source = Path(file).read_text(encoding="utf-8").strip(), file
        except (OSError, UnicodeDecodeError) as error:
            raise LetsError(f"{file}: the key cannot be read: {error}") from error
    _check_key(key, source)
    return key


def _check_key(key: str, source: str) -> None:
    if len(key) < 8 or not (key.isascii() and key.isprintable()) or " " in key:
        raise LetsError(
            f"{source}: a key must be at least 8 printable ASCII characters without spaces"
        )
