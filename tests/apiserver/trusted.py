"""An API server under test with all that decides who may do what: RBAC, admission, reviews, tokens, allocation, bootstrap objects."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from minikube_py import pki
from minikube_py.aio import Clock, SystemClock
from minikube_py.apiserver import admission, bootstrap, tokens
from minikube_py.apiserver.allocation import ServiceAllocator
from minikube_py.apiserver.api import Allocator, Request, Response
from minikube_py.apiserver.authz import RequestAuthorizer
from minikube_py.apiserver.call import Handler
from minikube_py.apiserver.reviews import Reviews
from tests.support.api import ApiUnderTest, api_server

SERVICE_CIDR = "10.43.0.0/24"


@asynccontextmanager
async def trusted_server(
    directory: Path, *, node_ports: range = range(30000, 32768), service_cidr: str = SERVICE_CIDR, clock: Clock | None = None
) -> AsyncIterator[ApiUnderTest]:
    """The server; its allocator is server.api's, bootstrap has run."""
    handlers: dict[tuple[str, str, str], Handler] = {}
    routes: dict[str, Callable[[Request], Awaitable[Response]]] = {}
    allocators: dict[tuple[str, str], Allocator] = {}
    made: list[RequestAuthorizer] = []

    def authorizer(cache: Any) -> RequestAuthorizer:
        made.append(RequestAuthorizer(cache))
        return made[0]

    late: Mapping[str, Any] = {"handlers": handlers, "routes": routes, "allocators": allocators}
    async with api_server(
        directory,
        authorizer=authorizer,
        admission=lambda cache: admission.plugins(cache, made[0] if made else authorizer(cache)),
        namespaces=(),
        clock=clock,
        **late,
    ) as server:
        check_token = server.api.authenticator.check_token  # type: ignore[attr-defined]
        handlers.update(Reviews(made[0], check_token, clock).handlers)
        handlers.update(tokens.TokenRequests(server.tokens, server.cache, server.api.admission, clock).handlers)
        routes.update(tokens.routes(server.tokens, server.url))
        client = server.client("system:apiserver")
        allocators["", "services"] = ServiceAllocator(
            client, server.cache, server.store, service_cidrs=[service_cidr], node_ports=node_ports
        )
        await bootstrap.reconcile(client, server.cache, settings(server, service_cidr), (clock or SystemClock()).time())
        yield server


def settings(server: ApiUnderTest, service_cidr: str = SERVICE_CIDR) -> bootstrap.Settings:
    """The bootstrap's settings of a server under test."""
    client_ca, front_proxy_ca = (server.keys.certificate_pem(name).decode() for name in (pki.CLIENT_CA, pki.FRONT_PROXY_CA))
    return bootstrap.Settings((service_cidr,), client_ca, front_proxy_ca)


class SettableClock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.offset = 0.0

    def time(self) -> float:
        return time.time() + self.offset

    def monotonic(self) -> float:
        return time.monotonic() + self.offset
