"""The listeners for load balancers' questions: one for each health check port, and one for the proxy itself, on all addresses of the node;
and one on its loopback for the proxy's status.

What is answered is health.py's. A port that somebody else has is told in the log once and tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from minikube_py.aio import wait_at_most
from minikube_py.proxy.health import PORT, STATUS_PORT, Answer, ProxyHealth, check_answer, proxy_answer, status_answer
from minikube_py.proxy.model import HealthCheck
from minikube_py.types.core import Node

log = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0
_BACKLOG = 16
_PROXY, _STATUS = "", "status"  # beside the keys of Services, which have a slash


class HealthListeners:
    """The listeners of one proxy; `node` gives its Node as it is known."""

    def __init__(
        self, health: ProxyHealth, node: Callable[[], Node | None], ipv6: bool, port: int = PORT, status: int = STATUS_PORT
    ) -> None:
        self._health, self._node = health, node
        self._everywhere, self._here = ("::", "::1") if ipv6 else ("0.0.0.0", "127.0.0.1")
        self._own = {_PROXY: port, _STATUS: status}
        self._checks: dict[str, HealthCheck] = {}
        self._open: dict[str, tuple[int, asyncio.Server]] = {}
        self._refused: set[str] = set()
        self._changed = asyncio.Event()

    def put(self, key: str, check: HealthCheck | None) -> None:
        """What a Service asks for now."""
        if self._checks.get(key) == check:
            return
        if check is None:
            del self._checks[key]
        else:
            self._checks[key] = check
        self._changed.set()

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                self._changed.clear()
                whole = await self._match()
                await wait_at_most(self._changed, None if whole else _RETRY_SECONDS)
        finally:
            for _, server in self._open.values():
                server.close()
            self._open.clear()

    async def _match(self) -> bool:
        """Open and close what has to be; whether all that is wanted is open."""
        wanted = {**self._own, **{key: check.port for key, check in self._checks.items()}}
        for key in [key for key, (port, _) in self._open.items() if wanted.get(key) != port]:
            self._open.pop(key)[1].close()
        for key, port in wanted.items():
            if key in self._open:
                continue
            handler = web.Server(self._handler(key))
            try:
                host = self._here if key == _STATUS else self._everywhere
                server = await asyncio.get_running_loop().create_server(handler, host, port, backlog=_BACKLOG)
            except OSError as error:
                if key not in self._refused:
                    log.warning("health checks are not answered", extra={"service": key, "port": port, "error": error.strerror})
                self._refused.add(key)
                continue
            self._refused.discard(key)
            self._open[key] = port, server
        return len(self._open) == len(wanted)

    def _handler(self, key: str) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
        def answer(path: str) -> Answer:
            if key == _STATUS:
                return status_answer(path)
            if key == _PROXY:
                return proxy_answer(path, self._health, self._node())
            check = self._checks.get(key)
            return check_answer(key, check.endpoints if check is not None else 0, self._health.healthy)

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            status, headers, body = answer(request.path)
            return web.Response(status=status, headers=headers, body=body)

        return handle
