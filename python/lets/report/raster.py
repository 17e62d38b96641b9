"""A small PNG of one colour with transparency, readable on light and on dark pages."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

RGB = (0xD9, 0x6B, 0x1E)


def png_of_shares(shares: Sequence[Sequence[float]]) -> bytes:
    """A palette image whose cell is as opaque as its share of 1. [rows][columns]"""
    height, width = len(shares), len(shares[0])
    rows = b"".join(
        b"\0" + bytes(round(255 * min(max(share, 0.0), 1.0)) for share in row) for row in shares
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)  # 8 bits, palette
    parts = (
        (b"IHDR", header),
        (b"PLTE", bytes(RGB) * 256),
        (b"tRNS", bytes(range(256))),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
