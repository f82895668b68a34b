"""Ends the remotecommand protocol of WebSocket clients (kubectl exec, attach, cp): the client's side of a remote command.

What flows through: a client's messages, each one channel's number and bytes, become calls of the runtime's side, and what that side puts
out becomes messages. Whether that side is a process of containerd's (`nativecommand`) or streams of the runtime's server (`spdycommand`)
is no concern here. What always holds: a side that does not take its data is not read for, so nothing piles up; the status comes after the
last output, whatever became of the runtime, since silence would mean success; when either side has gone the other is closed.

Channels (KEP-4006): 0 stdin, 1 stdout, 2 stderr, 3 status, 4 resize; 255 and a channel's number close it (v5 only).
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from aiohttp import WSMsgType, web

from minikube_py import tunnel
from minikube_py.kubelet import commandstatus, websocket

log = logging.getLogger(__name__)

V5, V4, V4_BASE64 = "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
PROTOCOLS = (V5, V4, V4_BASE64)

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_STATUS_LIMIT = 64 * 1024
_LOST = commandstatus.internal_error("the runtime ended the stream without a status")


class Streams(NamedTuple):
    """What a client asked to be connected to."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


class Command(Protocol):
    """The runtime's side of a remote command."""

    async def send(self, channel: int, data: bytes) -> None:
        """Pass on data of STDIN or RESIZE, once there is room. What nobody takes is dropped."""

    async def end(self, channel: int) -> None:
        """Say that the input has ended."""

    def output(self) -> AsyncIterator[tuple[int, bytes]]:
        """(channel, bytes) of STDOUT, STDERR and STATUS until all of them have ended, or the runtime has gone."""

    def close(self) -> None:
        """The client has gone, or knows all: let go of the command."""


class Client(Protocol):
    """The client's side, as the output sees it."""

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes of a channel, once the client takes them."""


async def serve(request: web.BaseRequest, protocol: str, streams: Streams, command: Command) -> None:
    """Accept a client's WebSocket with one of PROTOCOLS and pass on what comes until either side has ended; closes both."""
    try:
        client = _Client(await websocket.accept(request, protocol), protocol)
        try:
            # a client knows by a first message that it is connected
            await client.send(STDOUT if streams.stdout else STDERR if streams.stderr else STATUS, b"")
            await tunnel.until_either(client.input(command), pass_output(command, client))
        finally:
            await client.socket.close()
    finally:
        command.close()


async def pass_output(command: Command, client: Client) -> None:
    """Pass on what a command puts out, and how it ended behind that."""
    status = b""
    async for channel, data in command.output():
        if channel != STATUS:
            await client.send(channel, data)
        elif len(status) < _STATUS_LIMIT:
            status += data
    await client.send(STATUS, status or _LOST)


class _Client:
    """The client's WebSocket, in channels."""

    def __init__(self, socket: web.WebSocketResponse, protocol: str) -> None:
        self.socket = socket
        self._base64, self._closes = protocol == V4_BASE64, protocol == V5

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes of a channel, once the client takes them."""
        if self._base64:
            await self.socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
        else:
            await self.socket.send_bytes(bytes((channel,)) + data)

    async def input(self, command: Command) -> None:
        """Pass on what the client sends, until it ends."""
        async for message in self.socket:
            data = message.data.encode() if isinstance(message.data, str) else message.data
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return
            if not data:
                continue
            channel = data[0]
            if self._closes and channel == CLOSE:
                if len(data) != 2:
                    return
                await command.end(data[1])
            elif self._base64:
                try:
                    await self._pass(command, channel - ord("0"), base64.b64decode(data[1:], validate=True))
                except binascii.Error:
                    log.debug("a message that is not base64", extra={"channel": channel})
            else:
                await self._pass(command, channel, data[1:])

    async def _pass(self, command: Command, channel: int, data: bytes) -> None:
        if channel in (STDIN, RESIZE):
            await command.send(channel, data)
