"""Services as the node sees them: each service port with the endpoints that may serve it here. Pure.

The choice of endpoints is upstream's (KEP-1669, KEP-2086): ready ones; where none is ready, terminating ones that still serve; for the
Local policies only those of this node.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minikube_py.types.network import SERVICE_PROXY_NAME_LABEL, EndpointSlice, Service
from minikube_py.types.network import ServicePort as PortSpec


class Backend(NamedTuple):
    """One place that serves: the pod's address and port."""

    ip: str
    port: int


class ServicePort(NamedTuple):
    """One port of one Service, of one address family. The three lists say who serves: from inside the cluster, from outside by the
    Cluster policy, and on this node only (None where no policy asks for that)."""

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
    local_backends: tuple[Backend, ...]


class _Candidate(NamedTuple):
    backend: Backend
    ready: bool
    serving: bool
    terminating: bool
    local: bool


def service_ports(service: Service, slices: Iterable[EndpointSlice], node_name: str, ipv6: bool = False) -> tuple[ServicePort, ...]:
    """The ports that the proxy serves for a Service; none for headless and ExternalName ones, and those of another proxy."""
    spec, meta = service.spec, service.metadata
    if spec.type == "ExternalName" or SERVICE_PROXY_NAME_LABEL in meta.labels:
        return ()
    cluster_ip = next((ip for ip in spec.clusterIPs or (spec.clusterIP,) if _is_family(ip, ipv6)), "")
    if not cluster_ip:
        return ()
    matching = [s for s in slices if s.addressType == ("IPv6" if ipv6 else "IPv4")]
    external = spec.type in ("NodePort", "LoadBalancer")
    result = []
    for port in spec.ports:
        candidates = _candidates(port, matching, node_name)
        internal_local = spec.internalTrafficPolicy == "Local"
        external_local = external and spec.externalTrafficPolicy == "Local"
        result.append(
            ServicePort(
                name=f"{meta.namespace}/{meta.name}" + (f":{port.name}" if port.name else ""),
                protocol=port.protocol.lower(),
                cluster_ip=cluster_ip,
                port=port.port,
                node_port=port.nodePort if external else 0,
                external_ips=tuple(ip for ip in spec.externalIPs if _is_family(ip, ipv6)),
                load_balancer_ips=_load_balancer_ips(service, ipv6),
                source_ranges=tuple(r for r in spec.loadBalancerSourceRanges if (":" in r) == ipv6),
                affinity_seconds=spec.sessionAffinityConfig.clientIP.timeoutSeconds if spec.sessionAffinity == "ClientIP" else 0,
                internal_local=internal_local,
                external_local=external_local,
                backends=_usable(candidates),
                local_backends=_usable([c for c in candidates if c.local]),
            )
        )
    return tuple(result)


def _is_family(ip: str, ipv6: bool) -> bool:
    return bool(ip) and ip != "None" and (":" in ip) == ipv6


def _load_balancer_ips(service: Service, ipv6: bool) -> tuple[str, ...]:
    if service.spec.type != "LoadBalancer":
        return ()
    return tuple(i.ip for i in service.status.loadBalancer.ingress if _is_family(i.ip, ipv6) and i.ipMode != "Proxy")


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
            found[backend] = _Candidate(backend, ready, serving, bool(conditions.terminating), endpoint.nodeName == node_name)
    return list(found.values())


def _usable(candidates: Iterable[_Candidate]) -> tuple[Backend, ...]:
    candidates = tuple(candidates)
    ready = [c.backend for c in candidates if c.ready]
    if not ready:
        ready = [c.backend for c in candidates if c.serving and c.terminating]
    return tuple(sorted(ready, key=_order))


def _order(backend: Backend) -> tuple[int, int]:
    return int(ipaddress.ip_address(backend.ip)), backend.port
