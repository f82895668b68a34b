"""From one service port to iptables chains. Pure: the same input always gives the same text, so that a diff shows what changed.

The chains have upstream's names and meaning, so that what people know of debugging kube-proxy holds here:
KUBE-SERVICES → KUBE-SVC-… (the Cluster policy's endpoints) or KUBE-SVL-… (this node's) → KUBE-SEP-… (one endpoint); KUBE-EXT-… for what
comes from outside, KUBE-FW-… before it where only some sources may come. What the Local policy leaves without an endpoint here is dropped:
a load balancer is to ask another node. What has no endpoint anywhere is rejected.
"""

from __future__ import annotations

import hashlib
import ipaddress
from base64 import b32encode
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from minikube_py.netfilter.table import Chain
from minikube_py.proxy.model import Backend, ServicePort

NAT, FILTER = "nat", "filter"
SERVICES: Chain = (NAT, "KUBE-SERVICES")
NODE_PORTS: Chain = (NAT, "KUBE-NODEPORTS")
REJECTS: Chain = (FILTER, "KUBE-SERVICES")
EXTERNAL_REJECTS: Chain = (FILTER, "KUBE-EXTERNAL-SERVICES")
FIREWALL: Chain = (FILTER, "KUBE-PROXY-FIREWALL")
HEALTH_CHECKS: Chain = (FILTER, "KUBE-NODEPORTS")

Lines = tuple[str, ...]


class Frame(NamedTuple):
    """What is the same for all services: the node's ranges, as CIDRs of one address family, and the node's own address."""

    service_cidr: str
    cluster_cidr: str
    ipv6: bool = False
    node_ip: str = ""


class ServiceRules(NamedTuple):
    """What one Service adds: chains of its own, and lines in the shared ones."""

    chains: Mapping[Chain, Lines]
    shared: Mapping[Chain, Lines]


def chain_name(prefix: str, text: str) -> str:
    """A chain's name from what it stands for: the prefix and sixteen characters of a hash, as upstream makes them (28 is the limit)."""
    return prefix + b32encode(hashlib.sha256(text.encode()).digest()[:10]).decode()


def reject(ipv6: bool, protocol: str) -> str:
    """A TCP caller on the node itself takes an ICMP error only after its first retransmission, a second later: it gets a reset."""
    if protocol == "tcp":
        return "REJECT --reject-with tcp-reset"
    return "REJECT --reject-with icmp6-port-unreachable" if ipv6 else "REJECT --reject-with icmp-port-unreachable"


def health_check_line(name: str, port: int) -> str:
    """Lets a load balancer's health check in; `name` is namespace/name."""
    return f'-p tcp -m tcp --dport {port} -m comment --comment "{name} health check node port" -j ACCEPT'


def service_rules(port: ServicePort, frame: Frame) -> ServiceRules:
    """The chains and shared lines of one service port."""
    host = "/128" if frame.ipv6 else "/32"
    protocol, name = port.protocol, port.name
    identity = name + protocol
    svc, svl = chain_name("KUBE-SVC-", identity), chain_name("KUBE-SVL-", identity)
    some = bool(port.backends)
    inside = some and (not port.internal_local or bool(port.local_backends))
    outside = some and (not port.external_local or bool(port.local_backends))
    chains: dict[Chain, Lines] = {}
    shared: dict[Chain, Lines] = {}

    to_cluster_ip = f'-d {port.cluster_ip}{host} -p {protocol} -m {protocol} --dport {port.port} -m comment --comment "{name} '
    if inside:
        shared[SERVICES] = (f'{to_cluster_ip}cluster IP" -j {svl if port.internal_local else svc}',)
    else:
        shared[REJECTS] = (f"{to_cluster_ip}{_refusal(some, frame, protocol)}",)
    if port.external:
        _from_outside(port, frame, svc, svl, outside, chains, shared)

    masquerade = ""
    if frame.cluster_cidr and inside:
        masquerade = f'! -s {frame.cluster_cidr} {to_cluster_ip}cluster IP" -j KUBE-MARK-MASQ'
    targets = {backend: chain_name("KUBE-SEP-", identity + _address(backend)) for backend in port.backends}
    used: dict[Backend, str] = {}
    if some and (not port.internal_local or port.external):
        chains[NAT, svc] = tuple(_balance(port, targets, "" if port.internal_local else masquerade))
        used |= targets
    if port.local_backends and (port.internal_local or (port.external and port.external_local)):
        # terminating ones of this node may serve here where others, elsewhere, are ready
        local = {b: targets.get(b) or chain_name("KUBE-SEP-", identity + _address(b)) for b in port.local_backends}
        chains[NAT, svl] = tuple(_balance(port, local, masquerade if port.internal_local else ""))
        used |= local
    for backend, target in used.items():
        recent = f" -m recent --set --name {target} --rsource" if port.affinity_seconds else ""
        chains[NAT, target] = (
            # a pod that reaches itself through its Service is masqueraded (hairpin)
            f'-s {backend.ip}{host} -m comment --comment "{name}" -j KUBE-MARK-MASQ',
            f'-p {protocol} -m comment --comment "{name}"{recent} -m {protocol} -j DNAT --to-destination {_address(backend)}',
        )
    return ServiceRules(chains, shared)


def _refusal(some: bool, frame: Frame, protocol: str) -> str:
    """The end of a rule for what has no endpoint here (`some`: but elsewhere)."""
    return 'has no local endpoints" -j DROP' if some else f'has no endpoints" -j {reject(frame.ipv6, protocol)}'


def _from_outside(
    port: ServicePort, frame: Frame, svc: str, svl: str, outside: bool, chains: dict[Chain, Lines], shared: dict[Chain, Lines]
) -> None:
    """External addresses and node ports."""
    host = "/128" if frame.ipv6 else "/32"
    protocol, name, some = port.protocol, port.name, bool(port.backends)
    ext = chain_name("KUBE-EXT-", name + protocol)
    firewall = chain_name("KUBE-FW-", name + protocol) if some and port.load_balancer_ips and port.source_ranges else ""
    services = list(shared.get(SERVICES, ()))
    refused: list[str] = []
    walled: list[str] = []
    externals = [(ip, "external IP", ext) for ip in port.external_ips]
    externals += [(ip, "loadbalancer IP", firewall or ext) for ip in port.load_balancer_ips]
    for ip, kind, target in externals:
        match = f'-d {ip}{host} -p {protocol} -m {protocol} --dport {port.port} -m comment --comment "{name} '
        if some:
            services.append(f'{match}{kind}" -j {target}')
        if target == firewall:
            walled.append(f'{match}traffic not accepted by {firewall}" -j DROP')
        if not outside:
            refused.append(f"{match}{_refusal(some, frame, protocol)}")
    if port.node_port:
        match = f"-p {protocol} -m {protocol} --dport {port.node_port} -m comment --comment"
        if some:
            shared[NODE_PORTS] = (f'{match} "{name}" -j {ext}',)
        if not outside:
            refused.append(f'-m addrtype --dst-type LOCAL {match} "{name} {_refusal(some, frame, protocol)}')
    # one address may be both an external and a load balancer's
    for chain, lines in ((SERVICES, services), (EXTERNAL_REJECTS, refused), (FIREWALL, walled)):
        if lines:
            shared[chain] = tuple(dict.fromkeys(lines))
    if some:
        chains[NAT, ext] = tuple(_external(port, frame, svc, svl))
    if firewall:
        chains[NAT, firewall] = tuple(_allowed(port, frame, ext))


def _external(port: ServicePort, frame: Frame, svc: str, svl: str) -> Iterator[str]:
    """What comes from outside: masqueraded to any endpoint, or, by the Local policy, as it is to one of this node. The cluster's own pods
    and the node itself reach every endpoint by either."""
    if not port.external_local:
        yield f'-m comment --comment "masquerade traffic for {port.name} external destinations" -j KUBE-MARK-MASQ'
        yield f"-j {svc}"
        return
    if frame.cluster_cidr:
        yield f'-s {frame.cluster_cidr} -m comment --comment "pod traffic for {port.name} external destinations" -j {svc}'
    for verb, target in (("masquerade", "KUBE-MARK-MASQ"), ("route", svc)):
        comment = f'-m comment --comment "{verb} LOCAL traffic for {port.name} external destinations"'
        yield f"{comment} -m addrtype --src-type LOCAL -j {target}"
    if port.local_backends:
        yield f"-j {svl}"


def _allowed(port: ServicePort, frame: Frame, ext: str) -> Iterator[str]:
    """Who may come to a load balancer's address; who is not named here is not translated, and dropped in KUBE-PROXY-FIREWALL."""
    comment = f'-m comment --comment "{port.name} loadbalancer IP"'
    for source in port.source_ranges:
        yield f"-s {source} {comment} -j {ext}"
    if frame.node_ip and any(ipaddress.ip_address(frame.node_ip) in ipaddress.ip_network(s, strict=False) for s in port.source_ranges):
        # where the address is the node's own, the node speaks to it from it
        host = "/128" if frame.ipv6 else "/32"
        for ip in port.load_balancer_ips:
            yield f"-s {ip}{host} {comment} -j {ext}"


def _address(backend: Backend) -> str:
    return f"[{backend.ip}]:{backend.port}" if ":" in backend.ip else f"{backend.ip}:{backend.port}"


def _balance(port: ServicePort, targets: Mapping[Backend, str], masquerade: str) -> Iterator[str]:
    """A chain that picks one of the backends: first by affinity, then at random with equal shares."""
    if masquerade:
        yield masquerade
    if port.affinity_seconds:
        for backend, target in targets.items():
            yield (
                f'-m comment --comment "{port.name} -> {_address(backend)}" '
                f"-m recent --rcheck --seconds {port.affinity_seconds} --reap --name {target} --rsource -j {target}"
            )
    left = len(targets)
    for backend, target in targets.items():
        share = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
        yield f'-m comment --comment "{port.name} -> {_address(backend)}"{share} -j {target}'
        left -= 1
