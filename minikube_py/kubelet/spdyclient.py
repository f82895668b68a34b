"""Ends the remotecommand protocol of SPDY clients (client-go's SPDY executor, older kubectls), as `remotecommand` does WebSocket's.

What flows through: a stream a channel, named by the header `streamtype`; data on them becomes calls of the runtime's side, the end of
standard input among them, and what that side puts out becomes data. The command begins when the client has opened every stream that it
asked for. The status comes last; then all streams end, and the client is given time to read all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct

from aiohttp import web

from minikube_py import tunnel
from minikube_py.kubelet import spdy
from minikube_py.kubelet.connection import taken
from minikube_py.kubelet.remotecommand import RESIZE, STATUS, STDERR, STDIN, STDOUT, V4, Command, Streams, pass_output

_CHANNELS = {"error": STATUS, "stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "resize": RESIZE}
_OPENING = 30.0
_PIECE = 64 * 1024
_UPGRADED = (
    f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {V4}\r\n\r\n"
).encode()


def is_asked_for(request: web.BaseRequest) -> bool:
    """Whether the client wants SPDY, and a protocol that is spoken here."""
    listed = ",".join(request.headers.getall("X-Stream-Protocol-Version", ()))
    return request.headers.get("Upgrade", "").lower() == "spdy/3.1" and V4 in [name.strip() for name in listed.split(",")]


async def serve(request: web.BaseRequest, streams: Streams, command: Command) -> None:
    """Accept a client's connection and pass on what comes until either side has ended; closes both."""
    try:
        async with taken(request) as end:
            client = _Client(end)
            try:
                await end.write(_UPGRADED)
                async with asyncio.timeout(_OPENING):
                    await client.open(streams)
                await tunnel.until_either(client.input(command), pass_output(command, client))
                await client.finish()
            except (OSError, ValueError, TimeoutError):
                end.transport.abort()
            except BaseException:
                end.transport.abort()
                raise
    finally:
        command.close()


class _Client:
    """The client's connection, in channels."""

    def __init__(self, end: tunnel.End) -> None:
        self._end, self._reader, self._acceptor = end, spdy.Reader(end.read), spdy.Acceptor()
        self._streams: dict[int, int] = {}
        self._channels: dict[int, int] = {}

    async def open(self, streams: Streams) -> None:
        """Take the streams, until all that were asked for are there. Raises OSError and ValueError."""
        asked = {STATUS: True, STDIN: streams.stdin, STDOUT: streams.stdout, STDERR: streams.stderr, RESIZE: streams.tty}
        missing = {channel for channel, wanted in asked.items() if wanted}
        while missing:
            head = await self._reader.head()
            body = await self._reader.body(head)
            if head.kind == spdy.Kind.SYN_STREAM:
                stream, headers = self._acceptor.opened(body)
                channel = _CHANNELS.get(headers.get("streamtype", ""))
                if channel not in missing:
                    raise ValueError(f"unexpected stream {headers}")
                missing.discard(channel)
                self._streams[channel], self._channels[stream] = stream, channel
                await self._end.write(self._acceptor.reply(stream))
            else:
                await self._other(head, body)

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes of a channel, once the client takes them."""
        if (stream := self._streams.get(channel)) is not None:
            await self._end.write(spdy.data_head(stream, len(data)) + data)

    async def input(self, command: Command) -> None:
        """Pass on what the client sends, until it ends."""
        with contextlib.suppress(ValueError):
            while True:
                head = await self._reader.head()
                if head.kind == spdy.Kind.DATA:
                    await self._data(command, self._channels.get(head.stream), head)
                elif head.kind == spdy.Kind.GOAWAY:
                    return
                else:
                    body = await self._reader.body(head)
                    if head.kind == spdy.Kind.RST_STREAM and self._channels.get(struct.unpack_from(">I", body)[0]) == STDIN:
                        await command.end(STDIN)
                    await self._other(head, body)

    async def _data(self, command: Command, channel: int | None, head: spdy.Head) -> None:
        missing = head.length
        while missing:
            data = await self._reader.some(min(missing, _PIECE))
            missing -= len(data)
            if channel in (STDIN, RESIZE):
                await command.send(channel, data)
        if head.flags & spdy.FIN and channel == STDIN:
            await command.end(STDIN)

    async def _other(self, head: spdy.Head, body: bytes) -> None:
        if head.kind == spdy.Kind.PING:
            await self._end.write(spdy.ping(body))

    async def finish(self) -> None:
        """End all streams, and see that the client has got everything: it may still be sending."""
        await self._end.write(b"".join(spdy.data_head(stream, 0, spdy.FIN) for stream in self._channels) + spdy.goaway())
        self._end.finish()
        while await self._end.read():
            pass
