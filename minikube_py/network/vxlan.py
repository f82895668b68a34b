"""Brings an overlay's plan into the kernel: the tunnel's interface, its neighbours and forwarding entries, and the routes.

What is there is read first and only the difference is written; what is ours and no longer wanted goes. Ours are the interface and the
routes of one protocol number. All calls are blocking and act on the calling thread's network namespace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from minikube_py.netlink import EXCLUSIVE, REPLACE, attribute, attributes, dump, nested, request
from minikube_py.network import links
from minikube_py.network.overlay import Plan, Route, TunnelEnd

INTERFACE: Final = "mkpy-vxlan"
PORT: Final = 8472
NETWORK_ID: Final = 1
ROUTE_PROTOCOL: Final = 109

_NEWLINK, _NEWADDR = 16, 20
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26
_NEWNEIGH, _DELNEIGH, _GETNEIGH = 28, 29, 30
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_INFO_KIND, _INFO_DATA = 1, 2
_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT, _VXLAN_LOCAL6 = 1, 4, 7, 15, 17
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_NDA_DST, _NDA_LLADDR = 1, 2
_IFF_UP, _NUD_PERMANENT, _NTF_SELF, _RTNH_ONLINK = 0x1, 0x80, 0x2, 0x4
_AF_BRIDGE = 7
_SIOCGIFHWADDR = 0x8927


class Problem(NamedTuple):
    """A part of the plan that the kernel did not take."""

    what: str
    error: OSError


def apply(plan: Plan, mtu: int) -> list[Problem]:
    """Make the kernel hold what the plan says; what it did not take. Raises OSError where the tunnel cannot be had."""
    index = 0
    if plan.ends:
        index = _interface(plan, mtu)
    else:
        links.delete_link(INTERFACE)
    problems: list[Problem] = []
    standing = dict(_routes())
    for route in [r for r in standing if r not in plan.routes]:
        _remove_route(route, standing[route])
    if index:
        _entries(index, plan, problems)
    for route in sorted(plan.routes):
        wanted = index if route.tunnelled else 0
        if route in standing and (not wanted or standing[route] == wanted):
            continue
        try:
            request(_NEWROUTE, REPLACE, _route(route, wanted))
        except OSError as error:
            problems.append(Problem(f"route to {route.destination} by {route.gateway}", error))
    return problems


def remove() -> None:
    """Take everything of the overlay away. Idempotent."""
    apply(Plan(), 0)


# The tunnel


def _interface(plan: Plan, mtu: int) -> int:
    """The tunnel's interface as it should be; its index."""
    if _ethernet(INTERFACE) == plan.ethernet and links.mtu_of(INTERFACE) != mtu:
        # what is on its way is not lost
        links.set_mtu(INTERFACE, mtu)
    if (_ethernet(INTERFACE), links.mtu_of(INTERFACE)) != (plan.ethernet, mtu):
        links.delete_link(INTERFACE)
        local = ipaddress.ip_address(plan.local)
        data = nested(
            _INFO_DATA,
            attribute(_VXLAN_ID, struct.pack("=I", NETWORK_ID)),
            attribute(_VXLAN_LOCAL if local.version == 4 else _VXLAN_LOCAL6, local.packed),
            attribute(_VXLAN_LEARNING, b"\0"),
            attribute(_VXLAN_PORT, struct.pack("!H", PORT)),
        )
        payload = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
        payload += attribute(_IFLA_IFNAME, INTERFACE.encode() + b"\0") + attribute(_IFLA_MTU, struct.pack("=I", mtu))
        payload += attribute(_IFLA_ADDRESS, _bytes(plan.ethernet))
        payload += nested(_IFLA_LINKINFO, attribute(_INFO_KIND, b"vxlan"), data)
        request(_NEWLINK, EXCLUSIVE, payload)
    index = socket.if_nametoindex(INTERFACE)
    address = ipaddress.ip_address(plan.address)
    header = struct.pack("=BBBBI", _family(address.version), address.max_prefixlen, 0, 0, index)
    request(_NEWADDR, REPLACE, header + attribute(_IFA_LOCAL, address.packed) + attribute(_IFA_ADDRESS, address.packed))
    request(_NEWLINK, 0, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, _IFF_UP, _IFF_UP))
    return index


def _entries(index: int, plan: Plan, problems: list[Problem]) -> None:
    """The neighbours (which Ethernet address an end has) and forwarding entries (behind which node it is)."""
    version = ipaddress.ip_address(plan.address).version
    neighbours = {(end.address, end.ethernet): end for end in plan.ends}
    forwards = {(end.node, end.ethernet): end for end in plan.ends}
    for family, wanted in ((_family(version), neighbours), (_AF_BRIDGE, forwards)):
        standing = set(_neighbours(index, family))
        for destination, ethernet in standing - wanted.keys():
            with contextlib.suppress(OSError):
                request(_DELNEIGH, 0, _neighbour(index, family, destination, ethernet))
        for key in sorted(wanted.keys() - standing):
            try:
                request(_NEWNEIGH, REPLACE, _neighbour(index, family, *key))
            except OSError as error:
                problems.append(Problem(_described(wanted[key]), error))


def _neighbours(index: int, family: int) -> Iterator[tuple[str, str]]:
    for entry in dump(_GETNEIGH, struct.pack("=BxxxiHBB", family, index, 0, 0, 0)):
        kind, at, state = struct.unpack_from("=BxxxiH", entry)
        found = attributes(entry, 12)
        if at == index and kind == family and state & _NUD_PERMANENT and _NDA_DST in found and _NDA_LLADDR in found:
            yield str(ipaddress.ip_address(found[_NDA_DST])), found[_NDA_LLADDR].hex(":")


def _neighbour(index: int, family: int, destination: str, ethernet: str) -> bytes:
    flags = _NTF_SELF if family == _AF_BRIDGE else 0
    header = struct.pack("=BxxxiHBB", family, index, _NUD_PERMANENT, flags, 0)
    return header + attribute(_NDA_DST, ipaddress.ip_address(destination).packed) + attribute(_NDA_LLADDR, _bytes(ethernet))


def _described(end: TunnelEnd) -> str:
    return f"tunnel to {end.node}"


# Routes


def _routes() -> Iterator[tuple[Route, int]]:
    """Our routes, and the index of the interface of each."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for entry in dump(_GETROUTE, struct.pack("=BBBBBBBBI", family, 0, 0, 0, 0, 0, 0, 0, 0)):
            length, protocol, flags = entry[1], entry[5], struct.unpack_from("=I", entry, 8)[0]
            found = attributes(entry, 12)
            if protocol != ROUTE_PROTOCOL or _RTA_DST not in found or _RTA_GATEWAY not in found:
                continue
            destination = f"{ipaddress.ip_address(found[_RTA_DST])}/{length}"
            index = struct.unpack("=I", found.get(_RTA_OIF, b"\0\0\0\0"))[0]
            yield Route(destination, str(ipaddress.ip_address(found[_RTA_GATEWAY])), bool(flags & _RTNH_ONLINK)), index


def _remove_route(route: Route, index: int) -> None:
    try:
        request(_DELROUTE, 0, _route(route, index))
    except OSError as error:
        # its interface has gone, and it with it
        if error.errno not in (errno.ESRCH, errno.ENODEV):
            raise


def _route(route: Route, index: int) -> bytes:
    network = ipaddress.ip_network(route.destination)
    flags = _RTNH_ONLINK if route.tunnelled else 0
    header = struct.pack("=BBBBBBBBI", _family(network.version), network.prefixlen, 0, 0, 254, ROUTE_PROTOCOL, 0, 1, flags)
    where = attribute(_RTA_OIF, struct.pack("=I", index)) if index else b""
    return header + attribute(_RTA_DST, network.network_address.packed) + attribute(_RTA_GATEWAY, _packed(route.gateway)) + where


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _bytes(ethernet: str) -> bytes:
    return bytes.fromhex(ethernet.replace(":", ""))


def _ethernet(interface: str) -> str:
    """The Ethernet address of an interface; "" where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking.fileno(), _SIOCGIFHWADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return ""
    return answer[18:24].hex(":")
