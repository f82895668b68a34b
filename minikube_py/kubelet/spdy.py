"""SPDY/3.1, as far as Kubernetes' streaming clients and servers speak it: streams that clients open, data both ways, resets, pings.

Theory of operation: every frame is 8 bytes of head and a body. A control frame's head is 1, version (15 bits), type (16), flags (8), length
(24); a data frame's is 0, stream (31), flags (8), length (24). Streams that a client opens have odd numbers. A header block is compressed
by one zlib stream a direction; ours says in its own head that it uses no dictionary, which every inflater understands; a client's uses
SPDY's. What a server says in headers is never looked at. Kubernetes' clients and servers keep no window: who does not read holds up the
connection, and so TCP's own flow control is the only one. No input or output happens here: a reader is given what brings more bytes.
Written from the SPDY/3 draft, sections 2.2 and 2.6.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import NamedTuple

VERSION = 3
HEAD = 8
FIN = 0x01
_CONTROL = 0x8000
_HEADERS_LIMIT = 16 * 1024
_FRAME_LIMIT = 64 * 1024
"""Control frames of clients have some hundred bytes."""


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


class Acceptor:
    """Reads what streams a client opens, and answers."""

    def __init__(self) -> None:
        self._unpacker = zlib.decompressobj(zdict=_DICTIONARY)
        self._packer = zlib.compressobj()

    def opened(self, body: bytes) -> tuple[int, dict[str, str]]:
        """A new stream's number and its headers. Raises ValueError for what is no SYN_STREAM's body."""
        try:
            (stream,) = struct.unpack_from(">I", body)
            block = self._unpacker.decompress(body[10:], _HEADERS_LIMIT)
            (count,), at, texts = struct.unpack_from(">I", block), 4, []
            for _ in range(2 * min(count, _HEADERS_LIMIT)):
                (length,) = struct.unpack_from(">I", block, at)
                texts.append(block[at + 4 : at + 4 + length].decode())
                at += 4 + length
        except (struct.error, zlib.error) as error:
            raise ValueError(f"not a stream's headers: {error}") from error
        return stream & 0x7FFFFFFF, dict(zip(texts[::2], texts[1::2], strict=True))

    def reply(self, stream: int) -> bytes:
        """The frame that takes a stream."""
        packed = self._packer.compress(struct.pack(">I", 0)) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        return _control(Kind.SYN_REPLY, 0, struct.pack(">I", stream) + packed)


class Reader:
    """Takes frames out of a connection. `more` brings its next bytes, b"" at its end."""

    def __init__(self, more: Callable[[], Awaitable[bytes]], held: bytes = b"") -> None:
        self._more, self._buffer = more, bytearray(held)

    async def head(self) -> Head:
        """The next frame's head. Raises ConnectionError at the connection's end, ValueError for what is no SPDY."""
        return head(await self._exactly(HEAD))

    async def body(self, of: Head) -> bytes:
        """A control frame's body. Raises as `head`."""
        if of.length > _FRAME_LIMIT:
            raise ValueError(f"a control frame of {of.length} bytes")
        return await self._exactly(of.length)

    async def some(self, limit: int) -> bytes:
        """Up to so many bytes of a data frame's body, as they come. Raises as `head`."""
        if not self._buffer:
            await self._fill()
        return await self._exactly(min(limit, len(self._buffer)))

    async def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            await self._fill()
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    async def _fill(self) -> None:
        data = await self._more()
        if not data:
            raise ConnectionError("the connection has ended")
        self._buffer += data


def goaway() -> bytes:
    """The frame that says that this side is done."""
    return _control(Kind.GOAWAY, 0, struct.pack(">II", 0, 0))


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">I", len(data)) + data


def _control(kind: Kind, flags: int, body: bytes) -> bytes:
    return struct.pack(">HHI", _CONTROL | VERSION, kind, flags << 24 | len(body)) + body


# What clients' header blocks refer to: the draft's list, section 2.6.10.1.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorizatio"
    "n cache-control connection content-base content-encoding content-language content-length content-location content-md5 content"
    "-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since "
    "last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer"
    " transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public "
    "set-cookie keep-alive origin"
)
_PHRASES = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information20"
    "4 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Im"
    "plemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, "
    "GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,publicpri"
    "vatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
_DICTIONARY = b"".join(_text(word.replace("_", " ")) for word in _WORDS.split(" ")) + _PHRASES.encode()
