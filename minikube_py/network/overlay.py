"""How packets for the pods of other nodes travel: from the Node objects to routes and tunnel entries. Pure.

vxlan: each node has a tunnel end whose Ethernet address follows from the node's IP address, so that every node knows every other's without
asking, and nothing is learned from traffic. A pod range is routed to the tunnel end behind which it lies; the end's own IP address is the
range's first, which no pod ever has. host-gw: a pod range is routed straight to its node, which must be on the same network.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from minikube_py.types.core import Node

VXLAN, HOST_GW, NONE = "vxlan", "host-gw", "none"
OVERHEAD = {4: 50, 6: 70}
"""What VXLAN adds to a packet, by the IP version that the tunnel runs over."""


class Peer(NamedTuple):
    """A node as the network sees it."""

    name: str
    address: str
    pod_cidrs: tuple[str, ...]


class Route(NamedTuple):
    """A pod range and where its packets go: to a tunnel end (`tunnelled`) or to a node."""

    destination: str
    gateway: str
    tunnelled: bool


class TunnelEnd(NamedTuple):
    """Another node's end of the tunnel: its IP and Ethernet address, and the node's address."""

    address: str
    ethernet: str
    node: str


class Plan(NamedTuple):
    """What the kernel is to be told. `ethernet`, `address` and `local` are those of the node's own tunnel end, where there is one."""

    routes: frozenset[Route] = frozenset()
    ends: frozenset[TunnelEnd] = frozenset()
    ethernet: str = ""
    address: str = ""
    local: str = ""


def peer(node: Node) -> Peer | None:
    """What the network needs of a node; None while it has no pod range or no address."""
    address = next((a.address for a in node.status.addresses if a.type == "InternalIP"), "")
    cidrs = tuple(node.spec.podCIDRs) or ((node.spec.podCIDR,) if node.spec.podCIDR else ())
    return Peer(node.metadata.name, address, cidrs) if address and cidrs else None


def plan(mode: str, own_name: str, peers: Iterable[Peer]) -> Plan:
    """The plan of one node. Ranges of another IP version than the node's address are left out, and so is what is another's already."""
    by_name = {p.name: p for p in sorted(peers)}
    own = by_name.pop(own_name, None)
    if own is None or mode == NONE:
        return Plan()
    routes: set[Route] = set()
    ends: set[TunnelEnd] = set()
    taken = [ipaddress.ip_network(cidr) for cidr in own.pod_cidrs]
    for other in by_name.values():
        if other.address == own.address:
            continue
        for cidr in other.pod_cidrs:
            network = ipaddress.ip_network(cidr)
            if network.version != _version(own.address) or network.version != _version(other.address):
                continue
            if any(network.version == held.version and network.overlaps(held) for held in taken):
                continue
            taken.append(network)
            if mode == HOST_GW:
                routes.add(Route(cidr, other.address, False))
            else:
                routes.add(Route(cidr, str(network.network_address), True))
                ends.add(TunnelEnd(str(network.network_address), ethernet_address(other.address), other.address))
    if not ends:
        return Plan(frozenset(routes))
    first = next((n for n in map(ipaddress.ip_network, own.pod_cidrs) if n.version == _version(own.address)), None)
    if first is None:
        return Plan()
    return Plan(frozenset(routes), frozenset(ends), ethernet_address(own.address), str(first.network_address), own.address)


def ethernet_address(node_address: str) -> str:
    """The Ethernet address of a node's tunnel end: locally administered, the same wherever it is computed."""
    digest = hashlib.sha256(f"minikube-py {ipaddress.ip_address(node_address)}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def pod_mtu(mode: str, uplink: int, node_address: str) -> int:
    """The MTU of pods, where the machine's own is `uplink` (0: not known)."""
    if mode != VXLAN:
        return uplink
    return (uplink or 1500) - OVERHEAD[_version(node_address)]


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version
