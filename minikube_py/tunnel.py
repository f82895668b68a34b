"""Connections that are upgraded and then joined: what exec, attach and port-forward are once the HTTP of it is over.

Machinery of the API server's proxy and of the kubelet's endpoint, who decide what is joined to what. Through it flow a request's head to a
backend and its answer's head back, then bytes both ways. What always holds: an end reads no faster than the other takes, so that a tunnel
holds no more than the buffers of two connections; when one end goes, both go; what was read is written before the other end is closed, and
a peer may take its time with it, unless it takes nothing at all for `_LINGER` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple, cast

from minikube_py.aio import cancel

Connect = Callable[[Callable[[], asyncio.Protocol], str, int], Awaitable[None]]
"""Connects a protocol to a host and port. Raises OSError."""

_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 64 * 1024
_LINGER = 300.0
_LOOK_AGAIN = 0.05
_DRAIN = 1.0
"""Seconds in which a peer that was still sending may read the end of what it is sent, and close."""
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 9))
"""As Go's servers do it: a peer that has gone without a word is noticed after two and a half minutes, however idle its stream may be."""


def connector(tls: ssl.SSLContext | None = None) -> Connect:
    """Connects as this process does, over TLS where a context is given."""

    async def connect(factory: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(factory, host, port, ssl=tls, server_hostname=host if tls is not None else None)

    return connect


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Let the kernel ask an idle peer whether it is still there."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _KEEPALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)


class End(asyncio.Protocol):
    """One end of a tunnel. Until it is joined it keeps what comes, at most a head's length."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._other: End | None = None
        self._held = bytearray()
        self._full = self._finishing = False
        self._heard = 0.0
        self._news, self._news_of_room = asyncio.Event(), asyncio.Event()
        self.gone = asyncio.Event()

    @property
    def transport(self) -> asyncio.Transport:
        """The connection."""
        assert self._transport is not None
        return self._transport

    def adopt(self, transport: asyncio.Transport, sent: bytes) -> None:
        """Take over a connection that had another protocol; `sent` is what has come on it already."""
        self.connection_made(transport)
        self._held += sent
        if transport.is_closing():
            self.connection_lost(None)

    async def head(self) -> bytes:
        """What comes up to the first empty line. Raises ConnectionError where the connection ends first or the line does not come."""
        while (end := self._held.find(b"\r\n\r\n")) < 0:
            if self.gone.is_set() or len(self._held) > _HEAD_LIMIT:
                raise ConnectionError("malformed HTTP response")
            self._news.clear()
            self.transport.resume_reading()
            await self._news.wait()
        found = bytes(self._held[: end + 4])
        del self._held[: end + 4]
        return found

    async def body(self, length: int) -> bytes:
        """Up to so many bytes, fewer where the connection ends first."""
        while len(self._held) < length and not self.gone.is_set():
            self._news.clear()
            self.transport.resume_reading()
            await self._news.wait()
        return bytes(self._held[:length])

    async def read(self) -> bytes:
        """What has come, once something has; b"" once the connection has gone."""
        while not self._held and not self.gone.is_set():
            self._news.clear()
            self.transport.resume_reading()
            await self._news.wait()
        data = bytes(self._held)
        self._held.clear()
        return data

    async def write(self, data: bytes) -> None:
        """Write, and wait until there is room for more."""
        if not self.gone.is_set():
            self.transport.write(data)
        while self._full and not self.gone.is_set():
            self._news_of_room.clear()
            await self._news_of_room.wait()

    def join(self, other: End) -> None:
        """From now on what comes here goes to `other`."""
        self._other = other
        if self._held:
            other.transport.write(bytes(self._held))
            self._held.clear()
        if self.gone.is_set():
            other.finish()
        elif not other._full:
            self.transport.resume_reading()

    def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection as a reader and a writer; this object is out of use then."""
        loop, transport = asyncio.get_running_loop(), self.transport
        reader = asyncio.StreamReader(limit=_HEAD_LIMIT)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._held:
            reader.feed_data(bytes(self._held))
        if self.gone.is_set():
            reader.feed_eof()
        else:
            transport.resume_reading()
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def socket(self) -> tuple[socket.socket, bytes]:
        """The connection as a socket that does not block, and what has come on it; this object is out of use then.

        For whom reads and writes shall fail apart: a transport that cannot write throws away what it has not read."""
        connection = self.transport.get_extra_info("socket")
        taken = socket.socket(fileno=os.dup(connection.fileno()))
        taken.setblocking(False)
        held = bytes(self._held)
        self.transport.abort()
        return taken, held

    def finish(self) -> None:
        """Close the connection once what is left has been written."""
        if self._transport is not None and not self._finishing:
            self._finishing = True
            self._close_when_written(0, 0.0)

    def _close_when_written(self, before: int, until: float) -> None:
        # Not left to the transport: that of TLS gives a peer 30 seconds for everything, and who pages through an output needs longer.
        if self.gone.is_set():
            return
        loop, left = asyncio.get_running_loop(), self.transport.get_write_buffer_size()
        if left == 0 and loop.time() < self._heard + _DRAIN:
            # it is still sending: closed now, the connection would be reset, and with it what it has not read yet
            self.transport.resume_reading()
            loop.call_later(_DRAIN, self.transport.close)
        elif left == 0:
            self.transport.close()
        elif left != before:
            loop.call_later(_LOOK_AGAIN, self._close_when_written, left, loop.time() + _LINGER)
        elif loop.time() < until:
            loop.call_later(_LOOK_AGAIN, self._close_when_written, left, until)
        else:
            self.transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        keep_alive(transport)

    def data_received(self, data: bytes) -> None:
        other = self._other
        self._heard = self._loop.time()
        if other is None:
            self._held += data
            self.transport.pause_reading()
            self._news.set()
        elif not other.gone.is_set():
            other.transport.write(data)

    def pause_writing(self) -> None:
        self._full = True
        if self._other is not None and not self._other.gone.is_set():
            self._other.transport.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        self._news_of_room.set()
        if self._other is not None and not self._other.transport.is_closing():
            self._other.transport.resume_reading()

    def eof_received(self) -> bool:
        # A protocol's own end of input (SPDY's, WebSocket's) passes as bytes; an end of the connection's is the end of the tunnel, and what
        # was to be written to who has closed is of no use: TLS would wait 30 seconds for it.
        self._loop.call_soon(self.transport.abort)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self._news.set()
        self._news_of_room.set()
        # Two ends that know one another would wait for the garbage collector, with their buffers of TLS, a quarter of a megabyte each.
        other, self._other = self._other, None
        if other is not None:
            other.finish()


class Backend(NamedTuple):
    """A server that was asked to upgrade and has answered: its status and its answer's head, with the empty line."""

    end: End
    status: int
    head: bytes

    def header(self, name: str) -> str:
        """A header of the answer, "" where it has none."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.strip().lower() == name.lower():
                return value.strip()
        return ""


async def ask(connect: Connect, host: str, port: int, head: bytes, timeout: float = 30.0) -> Backend:
    """Connect, send a request, read the answer's head. Raises OSError, TimeoutError, and ConnectionError for what is no HTTP answer."""
    end = End()
    try:
        async with asyncio.timeout(timeout):
            await connect(lambda: end, host, port)
            end.transport.write(head)
            answer = await end.head()
        status = int(answer.split(b" ", 2)[1])
    except (ValueError, IndexError) as error:
        end.finish()
        raise ConnectionError(f"malformed HTTP response from {host}:{port}") from error
    except BaseException:
        end.finish()
        raise
    return Backend(end, status, answer)


async def refusal(backend: Backend) -> bytes:
    """The body with which a backend refused to upgrade; the connection is closed."""
    length = backend.header("Content-Length")
    body = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(5):
            body = await backend.end.body(min(int(length), _BODY_LIMIT) if length.isdigit() else _BODY_LIMIT)
    backend.end.finish()
    return body


def request_head(method: str, path: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """The head of a request."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


async def run(client: End, backend: Backend) -> None:
    """Join a client's connection to a backend that has upgraded; returns when both are gone. The backend's answer is the first that the
    client gets. Cancelled, it breaks both off."""
    try:
        client.transport.write(backend.head)
        backend.end.join(client)
        client.join(backend.end)
        await client.gone.wait()
        await backend.end.gone.wait()
    except BaseException:
        for end in (client, backend.end):
            if not end.gone.is_set():
                end.transport.abort()
        raise


async def run_on_socket(client: End, backend: Backend) -> None:
    """As `run`, for a backend that may break its connection off behind its last words, while the client is still sending (a command that
    ends before its input): what it has said is passed on, whatever became of writing to it."""
    loop = asyncio.get_running_loop()
    connection, held = backend.end.socket()

    async def inward() -> None:
        taken = True
        while data := await client.read():
            if taken:
                try:
                    await loop.sock_sendall(connection, data)
                except OSError:
                    taken = False

    async def outward() -> None:
        await client.write(backend.head + held)
        while data := await loop.sock_recv(connection, _HEAD_LIMIT):
            await client.write(data)

    try:
        await until_either(inward(), outward())
        client.finish()
        while await client.read():
            pass
    except BaseException:
        client.transport.abort()
        raise
    finally:
        connection.close()


async def until_either(*directions: Coroutine[Any, Any, None]) -> None:
    """Run both directions of a stream until one has ended; a connection that is lost is an end like any other."""
    tasks = [asyncio.create_task(direction, name="stream") for direction in directions]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with contextlib.suppress(OSError):
                task.result()
    finally:
        await cancel(*tasks)
