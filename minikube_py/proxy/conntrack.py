"""Stale UDP flows: UDP has no end, so the kernel keeps translating a flow to an endpoint that is gone until it is told to forget it.

`Targets` (pure) are where UDP clients of Services send to, each with who still serves there; `stale` says which of the kernel's flows lead
elsewhere. A target that had endpoints and has none any more, or whose Service was deleted, has nobody (kubernetes issues 125467, 126130).
An endpoint that is ending and still serves keeps the flows that it has, as with TCP.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from minikube_py.netfilter import flows
from minikube_py.netfilter.flows import UdpFlow
from minikube_py.proxy.model import Backend, ServicePort

log = logging.getLogger(__name__)

Target = tuple[str, int]
"""An address and port; the address is "" for a port of the node itself."""
Targets = Mapping[Target, frozenset[Backend]]


def targets(ports: Iterable[ServicePort]) -> dict[Target, frozenset[Backend]]:
    """The UDP targets of service ports."""
    found: dict[Target, frozenset[Backend]] = {}
    for port in ports:
        if port.protocol == "udp":
            serving = frozenset(port.serving)
            for ip in (port.cluster_ip, *port.external_ips, *port.load_balancer_ips):
                found[ip, port.port] = serving
            if port.node_port:
                found["", port.node_port] = serving
    return found


def changed(old: Targets, new: Targets) -> dict[Target, frozenset[Backend]]:
    """The targets that somebody left, or that got a first endpoint, each with who serves there now."""
    found = {target: new.get(target, frozenset[Backend]()) for target, serving in old.items() if serving - new.get(target, frozenset())}
    # what was sent before is tracked as untranslated
    return found | {target: serving for target, serving in new.items() if serving and not old.get(target)}


def stale(tracked: Iterable[UdpFlow], about: Targets) -> Iterator[UdpFlow]:
    """The flows to these targets that lead to nobody who serves there."""
    for flow in tracked:
        serving = about.get((flow.destination, flow.port))
        if serving is None:
            serving = about.get(("", flow.port))
            # with nobody there only what was translated is the proxy's own: the port may be somebody else's
            if serving is None or (not serving and flow.backend == flow.destination):
                continue
        if Backend(flow.backend, flow.backend_port) not in serving:
            yield flow


def forget(about: Targets, ipv6: bool) -> int:
    """Make the kernel forget the stale flows to these targets; how many there were. Blocking."""
    count = 0
    try:
        for flow in list(stale(flows.udp_flows(ipv6), about)):
            flows.forget(flow, ipv6)
            count += 1
    except OSError as error:
        log.warning("stale UDP flows may remain", extra={"error": str(error)})
    return count
