"""The HTTP client transport: requests and watches of another process over TLS with kept connections.

A connection that says nothing is found dead by the kernel within `DEAD_AFTER` seconds (TCP keep-alive, and a limit on unacknowledged
data); a watch that brings nothing for `SILENT_WATCH` seconds, though the server sends a bookmark about once a minute, is given up too.
A new client certificate is shown on new connections only: `renew` leaves the old ones to what still uses them.

aiohttp is imported at the first request: who only speaks in-process does not pay for it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from minikube_py.aio import Tasks
from minikube_py.client.transport import JSON, Answer, TransportError

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 60.0
"""For a whole answer."""
SILENT_WATCH = 180.0
DEAD_AFTER = 30.0
_KEPT_SECONDS = 30.0
_KEEPALIVE_IDLE, _KEEPALIVE_INTERVAL, _KEEPALIVE_PROBES = 15, 5, 3


class HttpTransport:
    """Speaks to one server (`https://host:port`) with one TLS context, and a bearer token where one is given.

    `renew` is to be called after the context has got another certificate.
    """

    def __init__(
        self, server: str, context: ssl.SSLContext, *, token: str = "", agent: str = "minikube-py", timeout: float = REQUEST_SECONDS
    ) -> None:
        self._server, self._context, self._seconds = server.rstrip("/"), context, timeout
        self._headers = {"User-Agent": agent, **({"Authorization": f"Bearer {token}"} if token else {})}
        self._sessions: dict[aiohttp.ClientSession, int] = {}
        self._current: aiohttp.ClientSession | None = None
        self._closing = Tasks()
        self._answers: set[aiohttp.ClientResponse] = set()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] = {},
        body: bytes | None = None,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Answer:
        """One request and its whole answer. Raises TransportError."""
        headers = {"Accept": accept} if body is None else {"Accept": accept, "Content-Type": content_type}
        what = f"{method} {self._server}{path}"
        try:
            async with asyncio.timeout(self._seconds), self._sent(method, path, query, headers, body) as answer:
                with _translated(what):
                    return Answer(answer.status, await answer.read(), answer.headers)
        except TimeoutError as error:
            raise TransportError(f"{what}: no answer within {self._seconds:.0f} s") from error

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, query: Mapping[str, str] = {}, accept: str = JSON
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """One request and its answer as it arrives. The chunks raise TransportError when the connection breaks or stays silent."""
        async with self._sent(method, path, query, {"Accept": accept}, None, silence=SILENT_WATCH) as answer:
            yield answer.status, _chunks(answer, f"{method} {self._server}{path}")

    @asynccontextmanager
    async def _sent(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes | None,
        silence: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        from aiohttp import ClientTimeout

        session = self._session()
        self._sessions[session] += 1
        limit = ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=silence)
        try:
            with _translated(f"{method} {self._server}{path}"):
                answer = await session.request(
                    method, self._server + path, params=query, headers=headers, data=body, timeout=limit, allow_redirects=False
                )
            # what is not read to its end closes its connection
            async with answer:
                self._answers.add(answer)
                try:
                    yield answer
                finally:
                    self._answers.discard(answer)
        finally:
            self._sessions[session] -= 1
            self._let_go(session)

    def _session(self) -> aiohttp.ClientSession:
        if self._current is None:
            import aiohttp

            connector = aiohttp.TCPConnector(ssl=self._context, limit=0, keepalive_timeout=_KEPT_SECONDS, socket_factory=_socket)
            self._current = aiohttp.ClientSession(
                connector=connector,
                headers={**self._headers, "Accept-Encoding": "identity"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self._sessions[self._current] = 0
        return self._current

    def renew(self) -> None:
        """Use new connections from now on; those in use end with what uses them."""
        session, self._current = self._current, None
        if session is not None:
            self._let_go(session)

    def reconnect(self) -> None:
        """Drop every connection: the way to the server is another one now. What uses them fails at once, and is tried again."""
        for session in list(self._sessions):
            if (connector := session.connector) is not None:
                # a farewell would have to travel the old way
                self._closing.spawn(_closed(connector), "drop connections")
        for answer in list(self._answers):
            answer.close()  # whoever reads it is told
        self.renew()

    def _let_go(self, session: aiohttp.ClientSession) -> None:
        if session is not self._current and self._sessions.get(session) == 0:
            self._closing.spawn(self._end(session), "close connections")

    async def _end(self, session: aiohttp.ClientSession) -> None:
        await session.close()
        self._sessions.pop(session, None)

    async def close(self) -> None:
        """Close every connection."""
        self._current = None
        await self._closing.close()
        for session in list(self._sessions):
            await self._end(session)


async def _closed(connector: aiohttp.BaseConnector) -> None:
    await connector.close(abort_ssl=True)


async def _chunks(answer: aiohttp.ClientResponse, what: str) -> AsyncIterator[bytes]:
    chunks = answer.content.iter_any()
    while True:
        try:
            with _translated(what):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        yield chunk


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket on which a dead peer is noticed."""
    made = socket.socket(address[0], address[1], address[2])
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_PROBES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(DEAD_AFTER * 1000))
    return made


class _translated:
    """Turns what can go wrong on the way into a TransportError that says what was tried."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, TransportError):
            return
        import aiohttp

        if isinstance(error, aiohttp.ClientError | OSError | ssl.SSLError | TimeoutError):
            raise TransportError(f"{self._what}: {str(error) or type(error).__name__}") from error
