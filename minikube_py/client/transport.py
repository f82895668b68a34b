"""What carries a client's requests: the interface that the HTTP and the in-process transport fulfil."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

JSON = "application/json"


class TransportError(Exception):
    """The server could not be reached, or the connection broke: the request may or may not have been carried out."""


class Answer(NamedTuple):
    """One whole answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class Transport(Protocol):
    """Carries requests as bytes. Raises TransportError; an answer with an error status is an answer."""

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

    def stream(
        self, method: str, path: str, *, query: Mapping[str, str] = {}, accept: str = JSON
    ) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]:
        """One request and its answer as it arrives: (status, chunks). Chunks need not end at line ends."""

    async def close(self) -> None:
        """Let go of connections."""
