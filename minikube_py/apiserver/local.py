"""The in-process client transport: a controller of this process is a client like any other.

It crosses a bytes boundary and the same authorization, admission and validation as HTTP; only authentication is given, since the identity
is the composition's to decide. Nobody shares mutable state with the store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from minikube_py.apiserver.api import Request, Response
from minikube_py.client.transport import JSON, Answer
from minikube_py.meta.user import User

if TYPE_CHECKING:
    from minikube_py.apiserver.server import ApiServer


class LocalTransport:
    """Carries the requests of one user to an API server of the same process."""

    def __init__(self, api: ApiServer, user: User, user_agent: str) -> None:
        self._api, self._user, self._user_agent = api, user, user_agent
        self._headers = {"user-agent": user_agent, "content-type": JSON, "accept": JSON}

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
        """One request and its whole answer."""
        response = await self._api.handle(self._request(method, path, query, body, content_type, accept))
        if response.stream is None:
            return Answer(response.status, response.body, response.headers)
        async with aclosing(response.stream) as stream:  # type: ignore[type-var]
            parts = [chunk if isinstance(chunk, bytes) else b"".join(chunk) async for chunk in stream]
        return Answer(response.status, b"".join(parts), response.headers)

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, query: Mapping[str, str] = {}, accept: str = JSON
    ) -> AsyncIterator[tuple[int, AsyncIterator[bytes]]]:
        """One request and its answer as it is made. What is not read is not made."""
        response = await self._api.handle(self._request(method, path, query, None, JSON, accept))
        async with aclosing(_chunks(response)) as chunks:
            yield response.status, chunks

    def _request(self, method: str, path: str, query: Mapping[str, str], body: bytes | None, content_type: str, accept: str) -> Request:
        headers = self._headers
        if content_type != JSON or accept != JSON:
            headers = {**headers, "content-type": content_type, "accept": accept}
        return Request(method, path, query, headers, body or b"", self._user, urlencode(query) if query else "")

    async def close(self) -> None:
        """Nothing to let go of."""


async def _chunks(response: Response) -> AsyncGenerator[bytes, None]:
    if response.stream is None:
        yield response.body
        return
    async with aclosing(response.stream) as stream:  # type: ignore[type-var]
        async for chunk in stream:
            yield chunk if isinstance(chunk, bytes) else b"".join(chunk)
