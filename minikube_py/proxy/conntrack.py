"""Stale UDP flows: UDP has no end, so the kernel keeps translating a flow to an endpoint that is gone until it is told to forget it.

`stale` (pure) says what to forget between two states of the service ports; `forget` runs conntrack. The whole state is compared, so
zero-endpoint and deleted services are covered too (kubernetes issues 125467, 126130).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterable
from typing import NamedTuple

from minikube_py.proxy.model import ServicePort

log = logging.getLogger(__name__)


class Flow(NamedTuple):
    """UDP flows to forget: those to an address and port (or, with ip "", to a port of the node), by endpoint or all of them."""

    ip: str
    port: int
    backend_ip: str = ""


def stale(old: Iterable[ServicePort], new: Iterable[ServicePort]) -> frozenset[Flow]:
    """Flows whose endpoint no longer serves, and flows that were rejected or untranslated before a first endpoint came."""
    before, after = _destinations(old), _destinations(new)
    flows: set[Flow] = set()
    for (ip, port), backends in before.items():
        now = after.get((ip, port), frozenset())
        flows |= {Flow(ip, port, backend) for backend in backends - now}
    for (ip, port), backends in after.items():
        if backends and not before.get((ip, port)):
            flows.add(Flow(ip, port))
    return frozenset(flows)


def _destinations(ports: Iterable[ServicePort]) -> dict[tuple[str, int], frozenset[str]]:
    found: dict[tuple[str, int], frozenset[str]] = {}
    for port in ports:
        if port.protocol != "udp":
            continue
        inside = port.local_backends if port.internal_local else port.backends
        outside = port.local_backends if port.external_local else port.backends
        found[port.cluster_ip, port.port] = frozenset(b.ip for b in inside)
        for ip in (*port.external_ips, *port.load_balancer_ips):
            found[ip, port.port] = frozenset(b.ip for b in outside)
        if port.node_port:
            found["", port.node_port] = frozenset(b.ip for b in outside)
    return found


async def forget(flows: Iterable[Flow]) -> None:
    """Delete the flows from the kernel's table; flows that are not there are no error."""
    if shutil.which("conntrack") is None:
        log.warning("conntrack is not installed, stale UDP flows may remain: apt-get install conntrack")
        return
    for flow in flows:
        arguments = ["-D", "-p", "udp", "--orig-port-dst", str(flow.port)]
        if flow.ip:
            arguments += ["--orig-dst", flow.ip]
        if flow.backend_ip:
            arguments += ["--dst-nat", flow.backend_ip]
        process = await asyncio.create_subprocess_exec(
            "conntrack", *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, err = await process.communicate()
        if process.returncode != 0 and b"0 flow entries" not in err:
            log.warning("conntrack failed", extra={"arguments": " ".join(arguments), "error": err.decode(errors="replace").strip()})
