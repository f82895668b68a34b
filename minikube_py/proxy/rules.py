"""From service ports to iptables chains. Pure: the same input always gives the same text, so that a diff shows what changed.

The chains have upstream's names and meaning, so that what people know of debugging kube-proxy holds here:
KUBE-SERVICES → KUBE-SVC-… (all endpoints) or KUBE-SVL-… (this node's) → KUBE-SEP-… (one endpoint); KUBE-EXT-… for what comes from outside.
MKPY-GUARD is ours: whatever goes to the service range and was not translated is rejected here and never leaves the node.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from minikube_py.netfilter.table import Chain, Jump, Rules, Saved
from minikube_py.proxy.model import Backend, ServicePort

MASQUERADE_MARK = "0x4000/0x4000"

_NAT, _FILTER = "nat", "filter"

JUMPS = (
    Jump(_NAT, "PREROUTING", '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'),
    Jump(_NAT, "OUTPUT", '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'),
    Jump(_NAT, "POSTROUTING", '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'),
    Jump(_FILTER, "FORWARD", '-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'),
    Jump(_FILTER, "FORWARD", '-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'),
    Jump(_FILTER, "OUTPUT", '-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'),
    Jump(
        _FILTER,
        "INPUT",
        '-m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
    ),
    Jump(
        _FILTER,
        "FORWARD",
        '-m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES',
    ),
    Jump(_FILTER, "INPUT", "-j KUBE-FIREWALL"),
    Jump(_FILTER, "OUTPUT", "-j KUBE-FIREWALL"),
    Jump(_FILTER, "FORWARD", '-m comment --comment "nothing for the service range leaves this node" -j MKPY-GUARD'),
    Jump(_FILTER, "OUTPUT", '-m comment --comment "nothing for the service range leaves this node" -j MKPY-GUARD'),
)


class Frame(NamedTuple):
    """What is the same for all services: the node's ranges, as CIDRs of one address family."""

    service_cidr: str
    cluster_cidr: str
    ipv6: bool = False


class ServiceRules(NamedTuple):
    """What one service port adds: chains of its own, and lines in the shared ones."""

    chains: Mapping[Chain, tuple[str, ...]]
    shared: Mapping[Chain, tuple[str, ...]]


def chain_name(prefix: str, *parts: str) -> str:
    """A chain's name from what it stands for: the prefix and sixteen characters of a hash, as upstream makes them (28 is the limit)."""
    digest = hashlib.sha256("".join(parts).encode()).digest()
    return prefix + base64.b32encode(digest).decode()[:16]


def service_rules(port: ServicePort, frame: Frame) -> ServiceRules:
    """The chains and shared lines of one service port."""
    host = f"/{128 if frame.ipv6 else 32}"
    protocol, name = port.protocol, port.name
    svc = chain_name("KUBE-SVC-", name, protocol)
    svl = chain_name("KUBE-SVL-", name, protocol)
    ext = chain_name("KUBE-EXT-", name, protocol)
    chains: dict[Chain, tuple[str, ...]] = {}
    services: list[str] = []
    rejects: list[str] = []
    external_rejects: list[str] = []
    node_ports: list[str] = []

    inside = port.local_backends if port.internal_local else port.backends
    inside_chain = svl if port.internal_local else svc
    outside = port.local_backends if port.external_local else port.backends
    to_cluster_ip = f"-d {port.cluster_ip}{host} -p {protocol} -m {protocol} --dport {port.port}"
    externals = [(ip, "external IP") for ip in port.external_ips] + [(ip, "loadbalancer IP") for ip in port.load_balancer_ips]
    has_outside = bool(port.node_port or externals)

    if inside:
        services.append(f'{to_cluster_ip} -m comment --comment "{name} cluster IP" -j {inside_chain}')
    else:
        rejects.append(f'{to_cluster_ip} -m comment --comment "{name} has no endpoints" -j {_reject(frame, protocol)}')
    if has_outside:
        for ip, kind in externals:
            match = f"-d {ip}{host} -p {protocol} -m {protocol} --dport {port.port}"
            if outside:
                services.append(f'{match} -m comment --comment "{name} {kind}" -j {ext}')
            else:
                external_rejects.append(f'{match} -m comment --comment "{name} has no endpoints" -j {_reject(frame, protocol)}')
        if port.node_port:
            match = f"-p {protocol} -m {protocol} --dport {port.node_port}"
            if outside:
                node_ports.append(f'{match} -m comment --comment "{name}" -j {ext}')
            else:
                local = f"-m addrtype --dst-type LOCAL {match}"
                external_rejects.append(f'{local} -m comment --comment "{name} has no endpoints" -j {_reject(frame, protocol)}')
        if outside:
            chains[_NAT, ext] = tuple(_external(port, frame, svc, svl))

    used: set[Backend] = set()
    if (inside and not port.internal_local) or (has_outside and outside and (not port.external_local or port.backends)):
        chains[_NAT, svc] = tuple(_balance(port, frame, svc, port.backends, to_cluster_ip))
        used |= set(port.backends)
    if (inside and port.internal_local) or (has_outside and port.external_local and port.local_backends):
        chains[_NAT, svl] = tuple(_balance(port, frame, svl, port.local_backends, to_cluster_ip))
        used |= set(port.local_backends)
    for backend in used:
        chains[_NAT, _endpoint_chain(port, backend)] = tuple(_endpoint(port, frame, backend))
    shared = {
        (_NAT, "KUBE-SERVICES"): tuple(services),
        (_NAT, "KUBE-NODEPORTS"): tuple(node_ports),
        (_FILTER, "KUBE-SERVICES"): tuple(rejects),
        (_FILTER, "KUBE-EXTERNAL-SERVICES"): tuple(external_rejects),
    }
    return ServiceRules(chains, {chain: lines for chain, lines in shared.items() if lines})


def standing(saved: Saved) -> Rules | None:
    """The rules that an earlier proxy has left, as they are; None where it has left none, or not all of its frame."""
    frame = table((), Frame("0.0.0.0/0", "0.0.0.0/0")).chains
    if not all(chain in saved.chains for chain in frame):
        return None
    return Rules({chain: rules for chain, rules in saved.chains.items() if chain in frame or chain[1].startswith("KUBE-")}, JUMPS)


def table(services: Iterable[ServiceRules], frame: Frame) -> Rules:
    """Everything: the frame and all services' rules."""
    chains: dict[Chain, tuple[str, ...]] = {}
    shared: dict[Chain, list[str]] = {
        (_NAT, "KUBE-SERVICES"): [],
        (_NAT, "KUBE-NODEPORTS"): [],
        (_FILTER, "KUBE-SERVICES"): [],
        (_FILTER, "KUBE-EXTERNAL-SERVICES"): [],
    }
    for service in services:
        chains.update(service.chains)
        for chain, lines in service.shared.items():
            shared[chain].extend(lines)
    # node ports come last: whatever is addressed to a service's own address has matched by then
    shared[_NAT, "KUBE-SERVICES"].append(
        '-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" '
        "-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
    )
    chains.update({chain: tuple(lines) for chain, lines in shared.items()})
    chains[_NAT, "KUBE-MARK-MASQ"] = ("-j MARK --set-xmark 0x4000/0x4000",)
    chains[_NAT, "KUBE-POSTROUTING"] = (
        f"-m mark ! --mark {MASQUERADE_MARK} -j RETURN",
        "-j MARK --set-xmark 0x4000/0x0",
        '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
    )
    chains[_FILTER, "KUBE-FORWARD"] = (
        "-m conntrack --ctstate INVALID -j DROP",
        f'-m comment --comment "kubernetes forwarding rules" -m mark --mark {MASQUERADE_MARK} -j ACCEPT',
        '-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    )
    loopback = "::1/128" if frame.ipv6 else "127.0.0.0/8"
    chains[_FILTER, "KUBE-FIREWALL"] = (
        f'! -s {loopback} -d {loopback} -m comment --comment "block incoming localnet connections" '
        "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
    )
    untranslated = f"-d {frame.service_cidr} -m addrtype ! --dst-type LOCAL"
    chains[_FILTER, "MKPY-GUARD"] = (
        f"{untranslated.replace(' -m', ' -p tcp -m', 1)} -j {_reject(frame, 'tcp')}",
        f"{untranslated} -j {_reject(frame, '')}",
    )
    return Rules(chains, JUMPS)


def _reject(frame: Frame, protocol: str) -> str:
    """A TCP caller on the node itself takes an ICMP error only after its first retransmission, a second later: it gets a reset."""
    if protocol == "tcp":
        return "REJECT --reject-with tcp-reset"
    return "REJECT --reject-with " + ("icmp6-port-unreachable" if frame.ipv6 else "icmp-port-unreachable")


def _endpoint_chain(port: ServicePort, backend: Backend) -> str:
    return chain_name("KUBE-SEP-", port.name, port.protocol, _address(backend))


def _address(backend: Backend) -> str:
    return f"[{backend.ip}]:{backend.port}" if ":" in backend.ip else f"{backend.ip}:{backend.port}"


def _balance(port: ServicePort, frame: Frame, chain: str, backends: tuple[Backend, ...], to_cluster_ip: str) -> Iterable[str]:
    """A chain that picks one of the backends: first by affinity, then at random with equal shares."""
    if frame.cluster_cidr:
        yield f'! -s {frame.cluster_cidr} {to_cluster_ip} -m comment --comment "{port.name} cluster IP" -j KUBE-MARK-MASQ'
    if port.affinity_seconds:
        for backend in backends:
            target = _endpoint_chain(port, backend)
            yield (
                f'-m comment --comment "{port.name} -> {_address(backend)}" '
                f"-m recent --rcheck --seconds {port.affinity_seconds} --reap --name {target} --rsource -j {target}"
            )
    for index, backend in enumerate(backends):
        left = len(backends) - index
        share = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
        yield f'-m comment --comment "{port.name} -> {_address(backend)}"{share} -j {_endpoint_chain(port, backend)}'


def _endpoint(port: ServicePort, frame: Frame, backend: Backend) -> Iterable[str]:
    """One backend: a pod that reaches itself through its Service is masqueraded (hairpin), then the translation."""
    host = f"/{128 if frame.ipv6 else 32}"
    yield f'-s {backend.ip}{host} -m comment --comment "{port.name}" -j KUBE-MARK-MASQ'
    recent = f" -m recent --set --name {_endpoint_chain(port, backend)} --rsource" if port.affinity_seconds else ""
    yield (f'-p {port.protocol} -m comment --comment "{port.name}"{recent} -m {port.protocol} -j DNAT --to-destination {_address(backend)}')


def _external(port: ServicePort, frame: Frame, svc: str, svl: str) -> Iterable[str]:
    """What comes from outside: masqueraded to any endpoint, or, by the Local policy, as it is to one of this node."""
    if not port.external_local:
        yield f'-m comment --comment "masquerade traffic for {port.name} external destinations" -j KUBE-MARK-MASQ'
        yield f"-j {svc}"
        return
    if port.backends:
        if frame.cluster_cidr:
            yield f'-s {frame.cluster_cidr} -m comment --comment "pod traffic for {port.name} external destinations" -j {svc}'
        for verb, target in (("masquerade", "KUBE-MARK-MASQ"), ("route", svc)):
            comment = f'-m comment --comment "{verb} LOCAL traffic for {port.name} external destinations"'
            yield f"{comment} -m addrtype --src-type LOCAL -j {target}"
    if port.local_backends:
        yield f"-j {svl}"
