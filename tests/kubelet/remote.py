"""A WebSocket client of the kubelet's exec, as kubectl is one: channels there and back, and the status at the end."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp

from minikube_py import pki
from tests.kubelet.agent import Agent

V5, V4, V4_BASE64 = "v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255


class Remote:
    """One command. What comes is collected by `ended`, or read piece by piece with `receive`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.seen: dict[int, bytearray] = {}

    async def send(self, data: bytes, channel: int = STDIN, piece: int = 32 * 1024) -> None:
        """Send data of a channel in messages of kubectl's size."""
        for at in range(0, len(data), piece):
            await self.socket.send_bytes(bytes((channel,)) + data[at : at + piece])

    async def end(self) -> None:
        """Say that the input has ended: v5 only."""
        await self.socket.send_bytes(bytes((CLOSE, STDIN)))

    async def receive(self) -> tuple[int, bytes] | None:
        """A message's channel and bytes, None at the end."""
        message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            return None
        channel, data = message.data[0], message.data[1:]
        self.seen.setdefault(channel, bytearray()).extend(data)
        return channel, data

    async def shows(self, text: bytes, channel: int = STDOUT, timeout: float = 20.0) -> None:
        """Read until a channel has had a text."""
        async with asyncio.timeout(timeout):
            while text not in self.seen.get(channel, b""):
                assert await self.receive() is not None, self.seen

    async def ended(self, timeout: float = 30.0) -> dict[str, Any]:
        """Read to the end; the status."""
        async with asyncio.timeout(timeout):
            while await self.receive() is not None:
                pass
        found: dict[str, Any] = json.loads(self.seen[STATUS])
        return found

    @property
    def out(self) -> bytes:
        """What came on standard output."""
        return bytes(self.seen.get(STDOUT, b""))


@contextlib.asynccontextmanager
async def remote(node: Agent, pod: str, *command: str, protocol: str = V5, **flags: bool) -> AsyncIterator[Remote]:
    """A command in the pod's container `main`; flags are input, output, error and tty."""
    query = urlencode([*(("command", word) for word in command), *((flag, "1") for flag, on in flags.items() if on)])
    context = node.api.keys.client_context(pki.KUBELET_CLIENT)
    context.check_hostname = False
    url = f"https://127.0.0.1:{node.options.port}/exec/default/{pod}/main?{query}"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=context, protocols=(protocol,), max_msg_size=0) as socket:
        yield Remote(socket)


async def run(node: Agent, pod: str, *command: str, stdin: bytes | None = None, tty: bool = False) -> tuple[Remote, dict[str, Any]]:
    """A command to its end, with all of its input sent beside what it says."""
    async with remote(node, pod, *command, input=stdin is not None, output=True, error=not tty, tty=tty) as command_:

        async def feed() -> None:
            assert stdin is not None
            with contextlib.suppress(ConnectionError):
                await command_.send(stdin)
                await command_.end()

        feeding = asyncio.create_task(feed(), name="stdin") if stdin is not None else None
        status = await command_.ended()
        if feeding is not None:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
        return command_, status
