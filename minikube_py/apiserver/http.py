"""The HTTP front: aiohttp's low-level server (no router) on TLS; requests in, the API server's responses out as bytes.

What flows through: a parsed head and a body in, one Request to ApiServer.handle, and its Response written straight to the transport: one
write for an answer that is whole, one a chunk for a stream. What always holds: a request is authenticated before it is looked at; bodies
end at 3 MiB; a stream ends with its client; a slow client holds its own stream back and nobody else.

The answers' heads are made here rather than by aiohttp's Response, which costs as much as everything else that a GET needs together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol, cast
from urllib.parse import parse_qsl, unquote

from aiohttp import HttpVersion, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from minikube_py.apiserver import answers
from minikube_py.apiserver.api import Authenticator, Request, Response
from minikube_py.apiserver.audit import AuditIds
from minikube_py.meta.errors import BadRequest, InternalError, RequestEntityTooLarge, StatusError
from minikube_py.meta.user import User

log = logging.getLogger(__name__)

MAX_BODY = 3 * 1024 * 1024
GZIP_FROM = 128 * 1024
_MAX_HEAD = 1024 * 1024
_KEEP_ALIVE = 90.0
_FAREWELL = 2.0
"""Seconds that a WebSocket's client has to answer that it is being closed."""
_LOOK_AGAIN = 1.0
"""Seconds after which one who takes nothing of a watch is looked at again."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_PLAIN_JSON = b"Cache-Control: no-cache, private\r\nContent-Type: application/json\r\nAudit-Id: "


class Api(Protocol):
    """What the front serves."""

    async def handle(self, request: Request) -> Response:
        """The answer to an authenticated request."""


class Upgrade:
    """A connection that may be taken over, once, by whoever serves the request: as a stream of bytes, or as a WebSocket."""

    def __init__(self, request: Exchange) -> None:
        self._request = request
        self.taken: asyncio.Future[None] | None = None

    def take(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        """Give the connection to `protocol`: (its transport, what the client has sent behind the head already). The HTTP side of it is over
        when `protocol` says so by `release`."""
        handler = self._request.protocol
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        rest = bytes(getattr(handler, "_message_tail", b""))
        self.taken = asyncio.get_running_loop().create_future()
        transport.set_protocol(protocol)
        transport.resume_reading()
        return transport, rest

    async def websocket(self, protocol: str) -> web.WebSocketResponse:
        """Make it a WebSocket with this subprotocol ("" for none), which is over when the taker says so by `release`. Raises BadRequest."""
        http = self._request
        loop = asyncio.get_running_loop()
        request = web.BaseRequest(http.message, http.payload, http.protocol, http.writer, http._task, loop)
        socket = web.WebSocketResponse(protocols=(protocol,), compress=False, timeout=_FAREWELL)
        try:
            await socket.prepare(request)
        except web.HTTPBadRequest as error:
            raise BadRequest(error.text or "malformed WebSocket handshake") from error
        self.taken = loop.create_future()
        return socket

    def release(self) -> None:
        """The stream has ended."""
        if self.taken is not None and not self.taken.done():
            self.taken.set_result(None)


class Exchange:
    """One request on one connection, as aiohttp wants to be given it back. It stands for web.BaseRequest, whose URL and caches nobody here
    needs: making one costs more than finding the object that is asked for."""

    __slots__ = ("_task", "message", "payload", "protocol", "writer")

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> None:
        self.message, self.payload, self.protocol, self.writer, self._task = message, payload, protocol, writer, task

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; aiohttp looks at them when it answers a malformed request itself."""
        return self.message.headers

    @property
    def version(self) -> HttpVersion:
        """The protocol's version."""
        return self.message.version

    @property
    def transport(self) -> asyncio.Transport | None:
        """The connection, None once the client has gone."""
        return self.protocol.transport

    @property
    def remote(self) -> str | None:
        """The client's address."""
        peer = self.protocol.peername
        return peer[0] if isinstance(peer, tuple) else peer

    def _cancel(self, error: BaseException) -> None:
        if self.payload is not EMPTY_PAYLOAD:
            self.payload.set_exception(error)

    def _finish(self) -> None:
        """Nothing to let go of."""


def _exchange(
    message: RawRequestMessage, payload: StreamReader, protocol: RequestHandler, writer: AbstractStreamWriter, task: asyncio.Task[None]
) -> Exchange | web.BaseRequest:
    if message.method == "UNKNOWN":
        # A request that could not be parsed: aiohttp answers it with its own Response, which needs its own request.
        return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop())
    return Exchange(message, payload, protocol, writer, task)


class _Sent:
    """What aiohttp is told of an answer that is on its way already."""

    __slots__ = ("keep_alive", "status")

    def __init__(self, status: int, keep_alive: bool) -> None:
        self.status, self.keep_alive = status, keep_alive

    async def prepare(self, request: Exchange) -> None:
        """Nothing to prepare."""

    async def write_eof(self) -> None:
        """Nothing to finish."""


_KEPT, _CLOSING = _Sent(200, True), _Sent(200, False)


class HttpFront:
    """Listens, authenticates, and hands requests on."""

    def __init__(self, api: Api, authenticator: Authenticator) -> None:
        self._api, self._authenticator = api, authenticator
        self._server = web.Server(
            cast("Any", self._handle),
            request_factory=cast("Any", _exchange),
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE,
            max_line_size=_MAX_HEAD,
            max_field_size=_MAX_HEAD,
            auto_decompress=False,
        )
        self._listeners: list[asyncio.Server] = []
        self._audit_ids = AuditIds()
        self._date = (0, b"")
        self._streams: set[asyncio.Task[Any]] = set()
        self._upgrades: dict[asyncio.Task[Any], Upgrade] = {}
        self.requests = 0

    @property
    def streams(self) -> int:
        """How many answers are being streamed now."""
        return len(self._streams)

    async def start(self, host: str | None, port: int, ssl_context: ssl.SSLContext | None) -> int:
        """Listen; the port that it became (for port 0) comes back. Raises OSError where the address is not to be had."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(self._server, host, port, ssl=ssl_context, backlog=1024, reuse_address=True)
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def close(self, grace: float = 1.0) -> None:
        """Stop listening, break streams off, give other requests `grace` seconds, close the connections: in three times that at most."""
        for listener in self._listeners:
            listener.close()
        streams = {*self._streams, *(task for task, upgrade in self._upgrades.items() if upgrade.taken is not None)}
        for task in streams:
            task.cancel()
        if streams:
            await asyncio.wait(streams, timeout=grace)
        self._server.pre_shutdown()
        await self._server.shutdown(grace)
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()

    async def _handle(self, http: Exchange) -> _Sent:
        self.requests += 1
        if "upgrade" not in http.message.headers:
            return await self._respond(http, None)
        task = asyncio.current_task()
        assert task is not None
        upgrade = self._upgrades[task] = Upgrade(http)
        try:
            return await self._respond(http, upgrade)
        finally:
            del self._upgrades[task]

    async def _respond(self, http: Exchange, upgrade: Upgrade | None) -> _Sent:
        message, payload = http.message, http.payload
        headers: Mapping[str, str] = message.headers
        close = message.should_close
        try:
            certificate = _peer_certificate(http)
            shown = headers if certificate is None else _for_authentication(headers)
            user = await self._authenticator.authenticate(shown, certificate)
            if payload.is_eof():
                body = payload.read_nowait()
            else:
                body = await self._body(http, headers)
            response = await self._api.handle(_request(message.method, message.path, headers, body, user, upgrade))
        except StatusError as error:
            response = answers.failure(error)
            close = close or error.code == 413
        except ConnectionError:
            raise
        except Exception:
            log.exception("request failed in the front", extra={"method": message.method, "path": message.path})
            response = answers.failure(InternalError("Internal error occurred"))
            close = True
        if upgrade is not None and upgrade.taken is not None:
            return await self._tunnelled(http, upgrade)
        head_only = message.method == "HEAD"
        if response.stream is not None:
            return await self._stream(http, response, close, head_only)
        body = response.body
        extra = response.headers
        if len(body) > GZIP_FROM and not head_only and "Content-Encoding" not in extra and _takes_gzip(headers):
            body = await asyncio.to_thread(_gzip, body)
            extra = {**extra, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        head = self._head(response, extra, len(body), close)
        transport = http.transport
        if transport is None:
            return _CLOSING
        transport.write(head if head_only or response.status in (204, 304) else head + body)
        if len(body) > GZIP_FROM:
            await http.writer.drain()
        return _CLOSING if close else _KEPT

    def _head(self, response: Response, extra: Mapping[str, str], length: int, close: bool) -> bytes:
        """The head of an answer; a length below zero means that it comes in chunks."""
        if response.content_type == "application/json" and not extra and not close and length >= 0:
            return b"%b%b%b\r\nContent-Length: %d\r\n%b" % (
                _STATUS_LINES[response.status], _PLAIN_JSON, self._audit_ids.next(), length, self._date_line(),
            )  # fmt: skip
        lines = [] if "Cache-Control" in extra else ["Cache-Control: no-cache, private"]
        lines += [f"{name}: {value}" for name, value in extra.items() if name != "Content-Length"]
        if response.status not in (204, 304):  # without a body: a client's cache takes a type and a length of these for the kept answer's
            lines.append(f"Content-Type: {response.content_type}")
            if length >= 0:
                lines.append(f"Content-Length: {length}")
            elif not close:
                lines.append("Transfer-Encoding: chunked")
        if close:
            lines.append("Connection: close")
        return b"%b%b\r\nAudit-Id: %b\r\n%b" % (
            _STATUS_LINES[response.status], "\r\n".join(lines).encode("utf-8", "replace"), self._audit_ids.next(), self._date_line(),
        )  # fmt: skip

    def _date_line(self) -> bytes:
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n\r\n".encode())
        return self._date[1]

    async def _body(self, http: Exchange, headers: Mapping[str, str]) -> bytes:
        """A body that has not arrived whole yet. Raises RequestEntityTooLarge."""
        declared = headers.get("content-length")
        if declared is not None and declared.isdigit() and int(declared) > MAX_BODY:
            raise _too_large()
        if headers.get("expect", "").lower() == "100-continue" and http.transport is not None:
            http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunks = []
        size = 0
        while chunk := await http.payload.readany():
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_BODY:
                raise _too_large()
        return b"".join(chunks)

    async def _stream(self, http: Exchange, response: Response, close: bool, head_only: bool) -> _Sent:
        """Write a stream until it, or its client, ends. A list has a length; a watch comes in chunks, each event at once."""
        assert response.stream is not None
        length = int(response.headers.get("Content-Length", -1))
        extra = response.headers
        stream = response.stream
        if response.finite and (length > GZIP_FROM or length < 0) and _takes_gzip(http.headers):
            stream, length = _gzipped(stream), -1
            extra = {**extra, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        writer = http.writer
        try:
            async with _closing(stream):
                if http.transport is None:
                    return _CLOSING
                http.transport.write(self._head(response, extra, length, close))
                if head_only:
                    return _CLOSING
                chunked = length < 0 and not close
                async for chunk in stream:
                    transport = http.transport
                    if transport is None or transport.is_closing():
                        return _CLOSING
                    if not isinstance(chunk, bytes):
                        chunk = b"".join(chunk)
                    transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                    if http.protocol.writing_paused and not await _drained(writer, response.over):
                        transport.abort()
                        return _CLOSING
                    if response.finite:
                        # A client that reads as fast as we write would have the loop to itself.
                        await asyncio.sleep(0)
                if chunked and http.transport is not None:
                    http.transport.write(b"0\r\n\r\n")
        except ConnectionError:
            return _CLOSING
        except Exception:
            # The head is out: all that is left is to break the connection, so that nobody takes the half for the whole.
            log.exception("stream failed", extra={"path": http.message.path})
            if http.transport is not None:
                http.transport.abort()
            return _CLOSING
        finally:
            self._streams.discard(task)
        return _CLOSING if close else _KEPT

    async def _tunnelled(self, http: Exchange, upgrade: Upgrade) -> _Sent:
        """Wait for the end of a byte stream; then aiohttp hears that the connection is gone, since its protocol is no longer told."""
        assert upgrade.taken is not None
        handler = http.protocol
        try:
            await upgrade.taken
        finally:
            asyncio.get_running_loop().call_soon(handler.connection_lost, None)
        return _CLOSING


async def _drained(writer: AbstractStreamWriter, over: Callable[[], bool] | None) -> bool:
    """Wait until the client has taken most of what was written; False when it takes nothing and is not to be waited for any longer."""
    while over is not None:
        try:
            async with asyncio.timeout(_LOOK_AGAIN):
                await writer.drain()
                return True
        except TimeoutError:
            if over():
                return False
    await writer.drain()
    return True


def _request(method: str, target: str, headers: Mapping[str, str], body: bytes, user: User, upgrade: Upgrade | None) -> Request:
    path, _, raw_query = target.partition("?")
    if not path.startswith("/"):
        path = "/" + path.partition("://")[2].partition("/")[2]
    if "%" in path:
        path = unquote(path)
    query = dict(parse_qsl(raw_query, keep_blank_values=True)) if raw_query else {}
    return Request(method, path, query, headers, body, user, raw_query, upgrade)


def _peer_certificate(http: Exchange) -> bytes | None:
    """The client's certificate, DER; looked up once a connection."""
    cache: dict[str, Any] = http.protocol._cache
    try:
        return cast("bytes | None", cache["peer_certificate"])
    except KeyError:
        pass
    tls = http.transport.get_extra_info("ssl_object") if http.transport is not None else None
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    cache["peer_certificate"] = certificate
    return certificate


def _for_authentication(headers: Mapping[str, str]) -> Mapping[str, str]:
    """A front-proxy's repeated headers as one value each; for all others the headers as they are."""
    if "x-remote-user" not in headers:
        return headers
    merged: dict[str, str] = {}
    for name, value in headers.items():
        name = name.lower()
        merged[name] = f"{merged[name]}\n{value}" if name in merged else value
    return merged


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    return "gzip" in headers.get("accept-encoding", "")


def _gzip(body: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()


@contextlib.asynccontextmanager
async def _closing(stream: AsyncIterator[Any]) -> AsyncIterator[None]:
    """Close a stream that can be closed, in the end."""
    try:
        yield
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            with contextlib.suppress(RuntimeError):
                await close()


async def _gzipped(stream: AsyncIterator[bytes | Sequence[bytes]]) -> AsyncGenerator[bytes, None]:
    """A stream compressed piece by piece in a thread, so that a big list does not hold the loop."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    async for chunk in stream:
        packed = await asyncio.to_thread(packer.compress, chunk if isinstance(chunk, bytes) else b"".join(chunk))
        if packed:
            yield packed
    yield packer.flush()


def _too_large() -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"Request entity too large: limit is {MAX_BODY}")
