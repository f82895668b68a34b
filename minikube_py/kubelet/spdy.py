"""The client's side of SPDY/3.1, as far as Kubernetes' streaming servers speak it: streams that we open, data both ways, resets, pings.

Theory of operation: every frame is 8 bytes of head and a body. A control frame's head is 1, version (15 bits), type (16), flags (8), length
(24); a data frame's is 0, stream (31), flags (8), length (24). Streams that a client opens have odd numbers. A header block is compressed
by one zlib stream a direction; ours says in its own head that it uses no dictionary, which every inflater understands, and what comes back
is never looked at. Kubernetes' servers keep no window: who does not read holds up the connection, and so TCP's own flow control is the only
one. No input or output happens here. Written from the SPDY/3 draft, sections 2.2 and 2.6.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

VERSION = 3
HEAD = 8
FIN = 0x01
_CONTROL = 0x8000


class Kind(IntEnum):
    """Types of control frames; DATA is no control frame and has a number that none of them has."""

    DATA = 0
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Head(NamedTuple):
    """A frame's head: `stream` is 0 for a control frame, whose body says it."""

    kind: int
    stream: int
    flags: int
    length: int


def head(data: bytes) -> Head:
    """The head that these 8 bytes are. Raises ValueError for another version than 3."""
    first, rest = struct.unpack(">II", data)
    flags, length = rest >> 24, rest & 0xFFFFFF
    if not first >> 31:
        return Head(Kind.DATA, first, flags, length)
    if first >> 16 != _CONTROL | VERSION:
        raise ValueError(f"not a frame of SPDY/3: {data.hex()}")
    return Head(first & 0xFFFF, 0, flags, length)


def data_head(stream: int, length: int, flags: int = 0) -> bytes:
    """The head of a data frame, to be followed by its body."""
    return struct.pack(">II", stream, flags << 24 | length)


def ping(body: bytes) -> bytes:
    """A ping, or the answer to one: the same body."""
    return _control(Kind.PING, 0, body)


class Opener:
    """Opens streams: numbers them and compresses their headers."""

    def __init__(self) -> None:
        self._next = 1
        self._packer = zlib.compressobj()

    def open(self, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The number of a new stream and the frame that opens it."""
        stream, self._next = self._next, self._next + 2
        block = struct.pack(">I", len(headers)) + b"".join(_text(name) + _text(value) for name, value in headers.items())
        packed = self._packer.compress(block) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        return stream, _control(Kind.SYN_STREAM, 0, struct.pack(">IIH", stream, 0, 0) + packed)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">I", len(data)) + data


def _control(kind: Kind, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", _CONTROL | VERSION, kind, flags << 24 | len(body)) + body
