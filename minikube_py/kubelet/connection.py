"""Takes a client's connection out of the hands of the HTTP server, for what is no HTTP any more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

from aiohttp import web

from minikube_py import tunnel


@contextlib.asynccontextmanager
async def taken(request: web.BaseRequest) -> AsyncIterator[tunnel.End]:
    """The request's connection, with what has come on it behind the request."""
    previous = cast("Any", request.protocol)
    transport = cast("asyncio.Transport", request.transport)
    client = tunnel.End()
    transport.set_protocol(client)
    client.adopt(transport, bytes(previous._message_tail))
    try:
        yield client
    finally:
        # the handler's own bookkeeping must see the end of a connection that it is no longer told of
        asyncio.get_running_loop().call_soon(previous.connection_lost, None)
