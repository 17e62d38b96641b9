"""A small HTTP client for load: one connection, kept open, JSON in and out.

Clients share the machine with the server, so they should take as little of it as they can.
"""

import asyncio
import json
import urllib.parse


class Client:
    """Requests one after another on one connection; opened again where the server closed it."""

    def __init__(self, host, port, headers=()):
        self.host, self.port = host, port
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self._reader = self._writer = None

    @classmethod
    def of(cls, url, headers=()):
        parts = urllib.parse.urlsplit(url)
        return cls(parts.hostname, parts.port, headers)

    async def post(self, path, value):
        """(status, JSON or text, headers)"""
        return await self.send("POST", path, json.dumps(value).encode())

    async def get(self, path):
        return await self.send("GET", path)

    async def send(self, method, path, body=b"", kind="application/json"):
        if self._writer is None or self._writer.is_closing() or self._reader.at_eof():
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
        head = f"{method} {path} HTTP/1.1\r\nhost: {self.host}\r\n{self._headers}"
        if body:
            head += f"content-type: {kind}\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return await self._answer()

    async def _answer(self):
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ", 2)[1])
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        is_json = headers.get("content-type", "").startswith("application/json")
        return status, json.loads(body) if is_json else body.decode(), headers

    def close(self):
        if self._writer is not None:
            self._writer.close()
            self._writer = None
