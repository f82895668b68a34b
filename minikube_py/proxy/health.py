"""What load balancers ask a node: at the health check port of each Service with the Local policy, and at the proxy's own port. Pure.

Answers, codes and headers are upstream's. A health check says how many endpoints the Service has on this node, and 503 for none; /healthz
says whether the proxy keeps up and the node is to get traffic at all (not while it is being removed), /livez only the first. The status
port, on the node's loopback alone, says that the proxy is there and how it works.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from minikube_py.aio import Clock
from minikube_py.types.core import Node

PORT: Final = 10256
STATUS_PORT: Final = 10249
_MODE: Final = b"iptables"
LATE_SECONDS: Final = 60.0
"""How long a change may wait for its commit until the proxy counts as unhealthy: twice upstream's longest interval between two syncs."""
_LEAVING_TAINT: Final = "ToBeDeletedByClusterAutoscaler"

Answer = tuple[HTTPStatus, Mapping[str, str], bytes]


class ProxyHealth:
    """Whether the proxy keeps up with the changes that it is told of."""

    def __init__(self, clock: Clock, ipv6: bool) -> None:
        self._clock, self._family = clock, "IPv6" if ipv6 else "IPv4"
        self._updated: float | None = None
        self._pending_since: float | None = None

    def queued(self) -> None:
        """A change waits for its commit."""
        if self._pending_since is None:
            self._pending_since = self._clock.monotonic()

    def updated(self) -> None:
        """All changes are in the kernel."""
        self._pending_since = None
        self._updated = self._clock.time()

    @property
    def healthy(self) -> bool:
        """No change waits for too long."""
        late = self._pending_since is not None and self._clock.monotonic() - self._pending_since >= LATE_SECONDS
        return self._updated is None or not late

    def report(self, eligible: bool | None = None) -> tuple[bool, dict[str, Any]]:
        """Whether all is well, and upstream's body."""
        well = self.healthy and eligible is not False
        now = self._clock.time()
        updated = _stamp(self._updated) if self._updated is not None else "0001-01-01T00:00:00Z"
        body: dict[str, Any] = {"lastUpdated": _stamp(now) if well else updated, "currentTime": _stamp(now)}
        if eligible is not None:
            body["nodeEligible"] = eligible
        body["healthy"] = self.healthy
        if self._updated is not None:
            body["status"] = {self._family: {"lastUpdated": updated, "healthy": self.healthy}}
        return well, body


def eligible(node: Node | None) -> bool:
    """Whether a node is to get traffic from load balancers."""
    if node is None or node.metadata.deletionTimestamp is not None:
        return False
    return not any(taint.key == _LEAVING_TAINT for taint in node.spec.taints)


def proxy_answer(path: str, health: ProxyHealth, node: Node | None) -> Answer:
    """The answer at the proxy's own port."""
    if path == "/healthz":
        well, body = health.report(eligible(node))
    elif path == "/livez":
        well, body = health.report()
    else:
        return _NOT_FOUND
    return _code(well), _JSON, json.dumps(body, separators=(",", ":")).encode()


def status_answer(path: str) -> Answer:
    """The answer at the status port."""
    bodies = {"/healthz": b"ok", "/proxyMode": _MODE}
    return (HTTPStatus.OK, _TEXT, bodies[path]) if path in bodies else _NOT_FOUND


def check_answer(service: str, endpoints: int, proxy_healthy: bool) -> Answer:
    """The answer at a health check port; `service` is namespace/name."""
    namespace, _, name = service.partition("/")
    body = {
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": endpoints,
        "serviceProxyHealthy": proxy_healthy,
    }
    headers = {**_JSON, "X-Load-Balancing-Endpoint-Weight": str(endpoints)}
    return _code(endpoints > 0 and proxy_healthy), headers, json.dumps(body, indent="\t").encode()


_TEXT: Final = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
_NOT_FOUND: Final[Answer] = (HTTPStatus.NOT_FOUND, _TEXT, b"404 page not found\n")
_JSON: Final = {"Content-Type": "application/json", "X-Content-Type-Options": "nosniff"}


def _code(well: bool) -> HTTPStatus:
    return HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
