"""Clients that break the rules, one after another; each says whether it was treated right."""

import asyncio
import json
import random
import struct


def _post(path, body, kind="application/json", length=None):
    size = len(body) if length is None else length
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n\r\n"
    )
    return head.encode() + body


_TEXT = json.dumps({"inputs": ["w1 w2 w3"] * 8}).encode()
# kind: (bytes, statuses that are right; none: the server may close without a word)
KINDS = {
    "malformed JSON": (_post("/v1/classify", b'{"inputs": ['), {400}),
    "deep JSON": (_post("/v1/classify", b"[" * 50_000), {400}),
    "invalid UTF-8": (_post("/v1/classify", b'{"inputs": "\xff\xfe"}'), {400}),
    "lone surrogate": (_post("/v1/classify", b'{"inputs": "\\ud800"}'), {422}),
    "wrong types": (_post("/v1/classify", b'{"inputs": {"a": 1}}'), {422}),
    "unknown task": (_post("/nobody/predict", b'{"inputs": "w1"}'), {404}),
    "wrong kind": (_post("/pairs/predict", b'{"inputs": "w1"}'), {422}),
    "too many texts": (_post("/v1/classify", json.dumps({"inputs": ["w1"] * 99}).encode()), {413}),
    "large body": (_post("/v1/classify", b"a" * 200_000), {413}),
    "false length": (_post("/v1/classify", b"", length=10**12), {413}),
    "form": (_post("/v1/classify", b"inputs=w1", "application/x-www-form-urlencoded"), {415}),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", {400, None}),
    "large headers": (b"GET /info HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 100_000, {400, None}),
    "slow body": (_post("/v1/classify", b'{"inputs"', length=60), {408}),
    "slow headers": (b"POST /v1/classify HTTP/1.1\r\nhos", {None}),
    "admin route": (_post("/tasks", b'{"pack": "/"}'), {404, 405}),
    # These leave before an answer: nothing can come.
    "gone in the body": (_post("/v1/classify", _TEXT[:9], length=len(_TEXT)), set()),
    "gone after the body": (_post("/v1/classify", _TEXT), set()),
}


async def misbehave(port, kind, patience=120.0):
    """Whether the server did what it should with a client of this kind."""
    sent, right = KINDS[kind]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    try:
        writer.write(sent)
        if not right:
            await writer.drain()
            await asyncio.sleep(random.random() * 0.01)
            _reset(writer)
            return True
        try:
            line = await asyncio.wait_for(reader.readline(), patience)
        except ConnectionError:
            line = b""
        except asyncio.TimeoutError:
            return False
        # A refusal may be cut off where the client goes on sending what nobody reads.
        status = int(line.split(b" ")[1]) if line.startswith(b"HTTP/1.1 ") else None
        return status in right or (status is None and kind in ("large body", "large headers"))
    finally:
        writer.close()


def _reset(writer):
    connection = writer.get_extra_info("socket")
    connection.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER of 0: a reset, no goodbye
    writer.transport.abort()
