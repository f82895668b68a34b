"""Hands a client's connection over to the runtime's streaming server: after the request's head, bytes pass both ways as they come.

So exec, attach and port-forward speak whatever the client and the runtime agree on (SPDY, WebSocket); nothing of it is understood here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast
from urllib.parse import urlsplit

from aiohttp import web

Dial = Callable[[str, int], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]

_CHUNK = 64 * 1024
# What belongs to the one connection, or to us, and not to the other side.
_DROPPED = frozenset({"host", "authorization", "content-length", "transfer-encoding"})


async def dial(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as this process does."""
    return await asyncio.open_connection(host, port)


class _Taken(asyncio.Protocol):
    """The client's connection once it is taken over: what arrives goes to the runtime, at the runtime's pace."""

    def __init__(self, transport: asyncio.Transport, writer: asyncio.StreamWriter) -> None:
        self._transport, self._writer = transport, writer
        self.ended = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        self._writer.write(data)
        if self._writer.transport.get_write_buffer_size() > 4 * _CHUNK and not self._tasks:
            self._transport.pause_reading()
            task = asyncio.ensure_future(self._drain())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        with contextlib.suppress(OSError):
            await self._writer.drain()
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def eof_received(self) -> bool:
        with contextlib.suppress(OSError, RuntimeError):
            if self._writer.can_write_eof():
                self._writer.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.writable.set()
        self.ended.set()


async def run(request: web.BaseRequest, url: str, connect: Dial) -> None:
    """Pass the request on to `url` and the connection with it; returns when both sides are done.

    The client's connection is closed at the end: the caller answers nothing. Raises OSError when `url` cannot be reached.
    """
    target = urlsplit(url)
    reader, writer = await connect(target.hostname or "127.0.0.1", target.port or 80)
    transport = cast("asyncio.Transport", request.transport)
    previous = cast("Any", request.protocol)
    taken = _Taken(transport, writer)
    try:
        path = target.path + (f"?{target.query}" if target.query else "")
        writer.write(_head(request.method, path, target.netloc, request.raw_headers))
        transport.set_protocol(taken)
        early = getattr(previous, "_message_tail", b"")
        if early:
            writer.write(early)
        await _copy(reader, transport, taken)
    finally:
        writer.close()
        transport.close()
        with contextlib.suppress(Exception):  # the handler's own bookkeeping must see the end of its connection
            previous.connection_lost(None)


async def _copy(reader: asyncio.StreamReader, transport: asyncio.Transport, taken: _Taken) -> None:
    ended = asyncio.ensure_future(taken.ended.wait())
    try:
        while not transport.is_closing():
            read = asyncio.ensure_future(reader.read(_CHUNK))
            await asyncio.wait({read, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not read.done():
                read.cancel()
                return
            try:
                data = read.result()
            except OSError:
                return
            if not data:
                return
            transport.write(data)
            await taken.writable.wait()
    finally:
        ended.cancel()


def _head(method: str, path: str, host: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1".encode(), f"Host: {host}".encode()]
    lines += [name + b": " + value for name, value in headers if name.decode("latin-1").lower() not in _DROPPED]
    return b"\r\n".join(lines) + b"\r\n\r\n"
