"""WebSocket clients of the node's endpoint: which subprotocols they ask for, how they are accepted, and SPDY inside of WebSocket messages.

kubectl port-forward speaks SPDY within a WebSocket (`SPDY/3.1+portforward.k8s.io`, KEP-4006): the messages' bodies, one behind the other,
are the connection that the runtime gets. What always holds: each side is read no faster than the other takes.
"""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

from minikube_py import tunnel
from minikube_py.kubelet.refused import Refused

_TUNNEL = "SPDY/3.1+"
_MESSAGE_LIMIT = 32 * 1024 * 1024
"""A client's message may have so many bytes, as upstream has it; kubectl's have some tens of thousands."""
_CHUNK = 64 * 1024
_CLOSING = 2.0


def requested(request: web.BaseRequest) -> tuple[str, ...] | None:
    """The subprotocols that a client asks for, the best first; None where it wants no WebSocket."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        return None
    listed = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ()))
    return tuple(name for part in listed.split(",") if (name := part.strip()))


def tunnelled(protocols: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the subprotocols that are SPDY within a WebSocket, as SPDY's own: 'portforward.k8s.io'."""
    return tuple(p.removeprefix(_TUNNEL) for p in protocols if p.startswith(_TUNNEL) and p.endswith(".k8s.io"))


async def accept(request: web.BaseRequest, protocol: str) -> web.WebSocketResponse:
    """Upgrade a client's connection."""
    socket = web.WebSocketResponse(protocols=(protocol,), compress=False, max_msg_size=_MESSAGE_LIMIT, timeout=_CLOSING)
    await socket.prepare(request)
    if request.transport is not None:
        tunnel.keep_alive(request.transport)
    return socket


async def spdy(url: str, protocol: str, connect: tunnel.Connect) -> tunnel.Backend:
    """The runtime's streaming server, upgraded to SPDY. Raises OSError, TimeoutError, and Refused."""
    target = urlsplit(url)
    path = target.path + (f"?{target.query}" if target.query else "")
    headers = {
        "Host": target.netloc,
        "Connection": "Upgrade",
        "Upgrade": "SPDY/3.1",
        "X-Stream-Protocol-Version": protocol,
        "Content-Length": "0",
    }
    head = tunnel.request_head("POST", path, headers.items())
    backend = await tunnel.ask(connect, target.hostname or "127.0.0.1", target.port or 80, head)
    if backend.status != 101:
        raise Refused(backend.status, (await tunnel.refusal(backend)).decode("utf-8", "replace").strip())
    return backend


async def serve_tunnel(request: web.BaseRequest, backend: tunnel.Backend) -> None:
    """Accept a client's WebSocket and make the bodies of its messages the connection to the runtime; closes both in the end."""
    reader, writer = backend.end.streams()
    try:
        socket = await accept(request, _TUNNEL + backend.header("X-Stream-Protocol-Version"))
        try:
            await tunnel.until_either(_inward(socket, writer), _outward(reader, socket))
        finally:
            await socket.close()
    finally:
        writer.transport.abort()


async def _inward(socket: web.WebSocketResponse, writer: asyncio.StreamWriter) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY:
            return
        writer.write(message.data)
        await writer.drain()


async def _outward(reader: asyncio.StreamReader, socket: web.WebSocketResponse) -> None:
    while data := await reader.read(_CHUNK):
        await socket.send_bytes(data)
