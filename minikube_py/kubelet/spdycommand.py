"""The runtime's side of a remote command by SPDY to its streaming server: attach, and exec where the runtime has no native tasks.

Every runtime speaks SPDY; WebSocket they know only up to v4.channel.k8s.io, which cannot say that standard input has ended. What flows
through: a channel's bytes become data on the runtime's stream of that channel, and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

from minikube_py import tunnel
from minikube_py.kubelet import spdy, websocket
from minikube_py.kubelet.remotecommand import RESIZE, STATUS, STDERR, STDIN, STDOUT, V4, Streams

_NAMES = {STATUS: "error", STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr", RESIZE: "resize"}
"""The runtime's names for its streams, in the order in which clients open them."""
_PIECE = 32 * 1024
_OPENING = 30.0


class SpdyCommand:
    """A connection to the runtime's streaming server with one stream a channel.

    A command may end while its input is still being sent; the runtime then breaks the connection off, behind the status. So the socket is
    read to its end whatever became of writing to it.
    """

    def __init__(self, connection: socket.socket, held: bytes) -> None:
        self._socket, self._loop = connection, asyncio.get_running_loop()
        self._reader = spdy.Reader(lambda: self._loop.sock_recv(connection, 2 * _PIECE), held)
        self._stream: dict[int, int] = {}
        self._channel: dict[int, int] = {}
        self._ended: set[int] = set()
        self._sending = asyncio.Lock()
        self._pings = b""

    async def open(self, streams: Streams) -> None:
        """Open the streams, and wait until the runtime has taken all of them: what came before, it would drop. Raises ConnectionError."""
        opener = spdy.Opener()
        frames = b""
        for channel in _channels(streams):
            number, frame = opener.open({"streamtype": _NAMES[channel]})
            self._stream[channel], self._channel[number] = number, channel
            frames += frame
        await self._write(frames)
        waiting = set(self._channel)
        while waiting:
            head = await self._reader.head()
            body = await self._reader.body(head)
            if head.kind == spdy.Kind.SYN_REPLY:
                waiting.discard(struct.unpack_from(">I", body)[0])
            elif head.kind in (spdy.Kind.GOAWAY, spdy.Kind.RST_STREAM):
                raise ConnectionError("the runtime has refused a stream")

    async def send(self, channel: int, data: bytes) -> None:
        """Pass data on, once there is room. What is for a stream that is not there, or has ended, is dropped."""
        number = self._stream.get(channel)
        if number is None or channel in self._ended:
            return
        for at in range(0, len(data), _PIECE):
            piece = data[at : at + _PIECE]
            await self._pass(channel, spdy.data_head(number, len(piece)) + piece)

    async def end(self, channel: int) -> None:
        """Say that a stream's input has ended."""
        number = self._stream.get(channel)
        if number is not None and channel not in self._ended:
            await self._pass(channel, spdy.data_head(number, 0, spdy.FIN))
            self._ended.add(channel)

    async def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(channel, bytes) until every stream of output has ended, or the connection, or what comes is no SPDY."""
        left = {channel for channel in (STDOUT, STDERR, STATUS) if channel in self._stream}
        with contextlib.suppress(OSError, ValueError):
            while left:
                head = await self._reader.head()
                if head.kind == spdy.Kind.DATA:
                    channel, missing = self._channel.get(head.stream, -1), head.length
                    while missing:
                        data = await self._reader.some(missing)
                        missing -= len(data)
                        yield channel, data
                    if head.flags & spdy.FIN:
                        left.discard(channel)
                    continue
                body = await self._reader.body(head)
                if head.kind == spdy.Kind.PING:
                    await self._answer(body)
                elif head.kind == spdy.Kind.GOAWAY:
                    return
                elif head.kind == spdy.Kind.RST_STREAM:
                    left.discard(self._channel.get(struct.unpack_from(">I", body)[0], -1))

    def close(self) -> None:
        """Close the connection: the runtime sees every stream end."""
        self._socket.close()

    async def _pass(self, channel: int, frame: bytes) -> None:
        try:
            await self._write(frame)
        except OSError:
            self._ended.add(channel)  # nobody takes it any more; the output says how it went

    async def _write(self, frame: bytes) -> None:
        async with self._sending:
            pings, self._pings = self._pings, b""
            await self._loop.sock_sendall(self._socket, pings + frame)

    async def _answer(self, body: bytes) -> None:
        """Answer a ping, now or with the next frame: who reads does not wait for who writes."""
        self._pings += spdy.ping(body)
        if not self._sending.locked():
            await self._write(b"")


async def connect(url: str, streams: Streams, connect: tunnel.Connect) -> SpdyCommand:
    """Open the streams of a runtime's streaming URL. Raises OSError, TimeoutError, and Refused."""
    runtime = SpdyCommand(*(await websocket.spdy(url, V4, connect)).end.socket())
    try:
        async with asyncio.timeout(_OPENING):
            await runtime.open(streams)
    except ValueError as error:
        runtime.close()
        raise ConnectionError(str(error)) from error
    except BaseException:
        runtime.close()
        raise
    return runtime


def _channels(streams: Streams) -> tuple[int, ...]:
    """The channels that the runtime opens streams for."""
    asked = {STATUS: True, STDIN: streams.stdin, STDOUT: streams.stdout, STDERR: streams.stderr, RESIZE: streams.tty}
    return tuple(channel for channel in _NAMES if asked[channel])
