"""Services as the node sees them: each service port with the endpoints that may serve it here. Pure.

The choice of endpoints is upstream's (KEP-1669, KEP-2086, KEP-4444): ready ones, of those the ones that are hinted for this node or zone
where every one is hinted; where none is ready, terminating ones that still serve; for the Local policies only those of this node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minikube_py.types.core import Node
from minikube_py.types.network import HEADLESS_LABEL, SERVICE_PROXY_NAME_LABEL, Endpoint, EndpointSlice, Service
from minikube_py.types.network import ServicePort as PortSpec

_ZONE_LABEL = "topology.kubernetes.io/zone"


class Place(NamedTuple):
    """Where the proxy runs: its node, and the zone that the node is in ("" for none)."""

    node: str
    zone: str = ""


def place(name: str, node: Node | None) -> Place:
    """Where the node of this name is."""
    return Place(name, node.metadata.labels.get(_ZONE_LABEL, "") if node is not None else "")


class Backend(NamedTuple):
    """One place that serves: the pod's address and port."""

    ip: str
    port: int


class ServicePort(NamedTuple):
    """One port of one Service, of one address family."""

    name: str
    """namespace/service:port-name, as upstream prints it in comments; the base of the chains' names."""
    protocol: str
    cluster_ip: str
    port: int
    node_port: int
    external_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...]
    affinity_seconds: int
    internal_local: bool
    external_local: bool
    backends: tuple[Backend, ...]
    """Who serves by the Cluster policy; empty only where nobody in the cluster serves."""
    local_backends: tuple[Backend, ...]
    """Who serves by the Local policy: on this node."""
    serving: tuple[Backend, ...] = ()
    """UDP only: everybody who still serves, wherever; flows to others are stale."""

    @property
    def external(self) -> bool:
        """Whether anything from outside the cluster leads here."""
        return bool(self.node_port or self.external_ips or self.load_balancer_ips)


class HealthCheck(NamedTuple):
    """What a load balancer asks the node about a Service with the Local policy: at which port, and how many endpoints it has here."""

    port: int
    endpoints: int


class _Candidate(NamedTuple):
    backend: Backend
    endpoint: Endpoint
    ready: bool
    serving: bool
    local: bool


def service_ports(service: Service, slices: Iterable[EndpointSlice], here: Place, ipv6: bool = False) -> tuple[ServicePort, ...]:
    """The ports that the proxy serves for a Service; none for headless and ExternalName ones, and those of another proxy."""
    spec, meta = service.spec, service.metadata
    cluster_ip = _cluster_ip(service, ipv6)
    if not cluster_ip:
        return ()
    matching = _served(slices, ipv6)
    external = spec.type in ("NodePort", "LoadBalancer")
    base = f"{meta.namespace}/{meta.name}"
    result = []
    for port in spec.ports:
        candidates = _candidates(port, matching, here.node)
        result.append(
            ServicePort(
                name=f"{base}:{port.name}" if port.name else base,
                protocol=port.protocol.lower(),
                cluster_ip=cluster_ip,
                port=port.port,
                node_port=port.nodePort if external else 0,
                external_ips=tuple(dict.fromkeys(ip for ip in spec.externalIPs if _is_family(ip, ipv6))),
                load_balancer_ips=_load_balancer_ips(service, ipv6),
                source_ranges=tuple(dict.fromkeys(r.strip() for r in spec.loadBalancerSourceRanges if (":" in r) == ipv6)),
                affinity_seconds=spec.sessionAffinityConfig.clientIP.timeoutSeconds if spec.sessionAffinity == "ClientIP" else 0,
                internal_local=spec.internalTrafficPolicy == "Local",
                external_local=spec.externalTrafficPolicy == "Local" and (external or bool(spec.externalIPs)),
                backends=_usable(_near(candidates, here)),
                local_backends=_usable([c for c in candidates if c.local]),
                serving=tuple(c.backend for c in candidates if c.serving) if port.protocol == "UDP" else (),
            )
        )
    return tuple(result)


def health_check(service: Service, slices: Iterable[EndpointSlice], here: Place, ipv6: bool = False) -> HealthCheck | None:
    """The health check that a Service asks of each node: by a load balancer's Local policy alone."""
    spec = service.spec
    if spec.type != "LoadBalancer" or spec.externalTrafficPolicy != "Local" or not spec.healthCheckNodePort:
        return None
    if not _cluster_ip(service, ipv6):
        return None
    matching = _served(slices, ipv6)
    local = {c.backend.ip for port in spec.ports for c in _candidates(port, matching, here.node) if c.local and c.ready}
    return HealthCheck(spec.healthCheckNodePort, len(local))


def _cluster_ip(service: Service, ipv6: bool) -> str:
    """The address that the proxy is to serve; "" for none."""
    spec = service.spec
    if spec.type == "ExternalName" or SERVICE_PROXY_NAME_LABEL in service.metadata.labels:
        return ""
    return next((ip for ip in spec.clusterIPs or (spec.clusterIP,) if _is_family(ip, ipv6)), "")


def _served(slices: Iterable[EndpointSlice], ipv6: bool) -> list[EndpointSlice]:
    """The slices that the proxy follows: those with the label of headless services are for DNS alone, whatever their Service is."""
    family = "IPv6" if ipv6 else "IPv4"
    return [s for s in slices if s.addressType == family and HEADLESS_LABEL not in s.metadata.labels]


def _is_family(ip: str, ipv6: bool) -> bool:
    return bool(ip) and ip != "None" and (":" in ip) == ipv6


def _load_balancer_ips(service: Service, ipv6: bool) -> tuple[str, ...]:
    if service.spec.type != "LoadBalancer":
        return ()
    addresses = (i.ip for i in service.status.loadBalancer.ingress if _is_family(i.ip, ipv6) and i.ipMode != "Proxy")
    return tuple(dict.fromkeys(addresses))


def _candidates(port: PortSpec, slices: Sequence[EndpointSlice], node_name: str) -> list[_Candidate]:
    found: dict[Backend, _Candidate] = {}
    for each in slices:
        number = next((p.port for p in each.ports if p.name == port.name and p.protocol == port.protocol and p.port), None)
        if number is None:
            continue
        for endpoint in each.endpoints:
            if not endpoint.addresses:
                continue
            conditions = endpoint.conditions
            ready = conditions.ready is not False
            serving = ready if conditions.serving is None else conditions.serving
            backend = Backend(endpoint.addresses[0], number)
            # while it moves from one slice to another, an endpoint is in both
            if backend not in found or ready:
                found[backend] = _Candidate(backend, endpoint, ready, serving, endpoint.nodeName == node_name)
    return list(found.values())


def _near(candidates: Sequence[_Candidate], here: Place) -> Sequence[_Candidate]:
    """Those that are hinted for this node, or else this zone, where every ready one has such a hint and some are for here; or else all."""
    ready = [c for c in candidates if c.ready]
    hints = [c.endpoint.hints for c in ready if c.endpoint.hints is not None]
    if not ready or len(hints) < len(ready):
        return candidates
    if all(h.forNodes for h in hints):
        near = [c for c, h in zip(ready, hints, strict=True) if any(n.name == here.node for n in h.forNodes)]
        if near:
            return near
    if all(h.forZones for h in hints):
        near = [c for c, h in zip(ready, hints, strict=True) if any(z.name == here.zone for z in h.forZones)]
        if near:
            return near
    return candidates


def _usable(candidates: Iterable[_Candidate]) -> tuple[Backend, ...]:
    candidates = tuple(candidates)
    chosen = [c.backend for c in candidates if c.ready]
    if not chosen:
        chosen = [c.backend for c in candidates if c.serving and c.endpoint.conditions.terminating]
    return tuple(sorted(chosen))
