"""What an upgraded request becomes: a tunnel to a backend that has upgraded too, or a WebSocket through which a log is sent.

Mechanism only: who is joined to whom is proxy.py's decision. The bytes of a tunnel are not looked at. A log's WebSocket speaks
`binary.k8s.io` or `base64.binary.k8s.io`: messages go to the client alone, the first is empty, and what the client sends is ignored.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from aiohttp import web

from minikube_py import tunnel
from minikube_py.apiserver.api import Response
from minikube_py.apiserver.http import Upgrade
from minikube_py.apiserver.impersonate import values

_BINARY, _BASE64 = "binary.k8s.io", "base64.binary.k8s.io"
_READERS = ("", _BINARY, _BASE64)


async def join(upgrade: Upgrade, backend: tunnel.Backend) -> None:
    """Hand the client's connection over and copy both ways until both sides have ended. The backend's 101 is the first that the client
    gets."""
    client = tunnel.End()
    try:
        transport, sent = upgrade.take(client)
        client.adopt(transport, sent)
        await tunnel.run(client, backend)
    finally:
        backend.end.finish()
        upgrade.release()


async def refused(backend: tunnel.Backend) -> Response:
    """The answer of a backend that did not upgrade, as it gave it."""
    body = await tunnel.refusal(backend)
    return Response(backend.status, body, content_type=backend.header("Content-Type") or "text/plain; charset=utf-8")


def wants_websocket(headers: Mapping[str, str]) -> bool:
    """Whether a request asks to become a WebSocket."""
    return headers.get("upgrade", "").lower() == "websocket"


def reader_protocol(headers: Mapping[str, str]) -> str | None:
    """The subprotocol in which a stream is read, the first that the client names and we know; None where we know none of them."""
    named = [name.strip() for value in values(headers, "sec-websocket-protocol") for name in value.split(",")]
    return next((name for name in named or [""] if name in _READERS), None)


async def send(upgrade: Upgrade, protocol: str, stream: AsyncIterator[bytes | Sequence[bytes]]) -> None:
    """Make the client's connection a WebSocket and send a stream through it, at the client's pace, until either ends."""
    try:
        socket = await upgrade.websocket(protocol)
        try:
            await tunnel.until_either(_copy(stream, socket, protocol == _BASE64), _ignore(socket))
        finally:
            await socket.close()
    finally:
        close: Any = getattr(stream, "aclose", None)
        if close is not None:
            await close()
        upgrade.release()


async def _copy(stream: AsyncIterator[bytes | Sequence[bytes]], socket: web.WebSocketResponse, encoded: bool) -> None:
    await _message(socket, b"", encoded)
    async for chunk in stream:
        await _message(socket, chunk if isinstance(chunk, bytes) else b"".join(chunk), encoded)


async def _message(socket: web.WebSocketResponse, data: bytes, encoded: bool) -> None:
    if encoded:
        await socket.send_str(base64.b64encode(data).decode())
    else:
        await socket.send_bytes(data)


async def _ignore(socket: web.WebSocketResponse) -> None:
    async for _ in socket:
        pass
