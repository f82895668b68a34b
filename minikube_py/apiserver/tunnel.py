"""Two connections joined into one stream of bytes: what an upgraded request (exec, attach, port-forward) becomes.

Mechanism only: who is joined to whom is proxy.py's decision. What always holds: each side reads no faster than the other takes; when one
ends or breaks, what was read is written and the other is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import NamedTuple

from minikube_py.apiserver.http import Upgrade

_HEAD_LIMIT = 64 * 1024
_BODY_LIMIT = 64 * 1024


class Backend(NamedTuple):
    """A dialled server that has answered: its answer's status and head (with the empty line), and what came behind."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    status: int
    head: bytes


async def dial(host: str, port: int, tls: ssl.SSLContext | None, request: bytes, timeout: float = 30.0) -> Backend:
    """Connect, send a request's head, read the answer's. Raises OSError, TimeoutError, and ConnectionError for what is no HTTP answer."""
    async with asyncio.timeout(timeout):
        name = host if tls is not None else None
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=name, limit=_HEAD_LIMIT)
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
            writer.close()
            raise ConnectionError(f"malformed HTTP response from {host}:{port}") from error
        except BaseException:
            writer.close()
            raise
    return Backend(reader, writer, status, head)


async def refusal(backend: Backend) -> str:
    """The text with which a backend refused to upgrade; the connection is closed."""
    body = b""
    length = _BODY_LIMIT
    for line in backend.head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = min(int(value), _BODY_LIMIT)
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(5):
            while len(body) < length and (chunk := await backend.reader.read(length - len(body))):
                body += chunk
    backend.writer.close()
    return body.decode("utf-8", "replace").strip()


class _Client(asyncio.Protocol):
    """The client's side: what comes in goes to the backend's writer."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = asyncio.Event()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Not called: the transport had another protocol before."""

    def data_received(self, data: bytes) -> None:
        writer = self._backend.writer
        if not writer.is_closing():
            writer.write(data)
            if self.transport is not None and writer.transport.get_write_buffer_size() > _HEAD_LIMIT:
                self.transport.pause_reading()
                asyncio.get_running_loop().create_task(self._resume(), name="tunnel drain")

    async def _resume(self) -> None:
        with contextlib.suppress(OSError):
            await self._backend.writer.drain()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()
        self._writable.set()

    async def copy(self) -> None:
        """Backend to client, until either ends."""
        assert self.transport is not None
        ended = asyncio.create_task(self._ended.wait(), name="tunnel end")
        try:
            while not self._ended.is_set():
                read = asyncio.create_task(self._backend.reader.read(_HEAD_LIMIT), name="tunnel read")
                await asyncio.wait((read, ended), return_when=asyncio.FIRST_COMPLETED)
                if not read.done():
                    read.cancel()
                    break
                try:
                    data = read.result()
                except OSError:
                    break
                if not data:
                    break
                self.transport.write(data)
                await self._writable.wait()
        finally:
            ended.cancel()
            self._backend.writer.close()
            self.transport.close()


async def join(upgrade: Upgrade, backend: Backend) -> None:
    """Hand the client's connection over and copy both ways until one side ends. The backend's 101 is the first that the client gets."""
    client = _Client(backend)
    try:
        client.transport, sent = upgrade.take(client)
        client.transport.write(backend.head)
        if sent:
            client.data_received(sent)
        await client.copy()
    finally:
        backend.writer.close()
        upgrade.release()
