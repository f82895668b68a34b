"""The flows that the kernel tracks: those of UDP are read and made forgotten over netlink.

All calls are blocking and act on the calling thread's network namespace.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from minikube_py.netlink import NETFILTER, attribute, attributes, dump, nested, request

_GET, _DELETE = 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, …_DELETE
_ORIGINAL, _REPLY, _ZONE = 1, 2, 18
_IP, _PROTOCOL = 1, 2
_SOURCE, _DESTINATION = {4: 1, 6: 3}, {4: 2, 6: 4}
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_UDP: Final = 17


class UdpFlow(NamedTuple):
    """Where a client sends to, who answers it, and the kernel's own key."""

    destination: str
    port: int
    backend: str
    backend_port: int
    key: bytes


def udp_flows(ipv6: bool) -> Iterator[UdpFlow]:
    """The UDP flows of one address family. Raises OSError."""
    version = 6 if ipv6 else 4
    for entry in dump(_GET, _header(ipv6), NETFILTER):
        found = attributes(entry, 4)
        original, reply = found.get(_ORIGINAL), found.get(_REPLY)
        if original is None or reply is None:
            continue
        there, back = attributes(original, 0), attributes(reply, 0)
        protocol, answered = attributes(there.get(_PROTOCOL, b""), 0), attributes(back.get(_PROTOCOL, b""), 0)
        if protocol.get(_NUMBER, b"\0")[0] != _UDP or _DESTINATION_PORT not in protocol or _SOURCE_PORT not in answered:
            continue
        destination = attributes(there[_IP], 0)[_DESTINATION[version]]
        backend = attributes(back[_IP], 0)[_SOURCE[version]]
        zone = attribute(_ZONE, found[_ZONE]) if _ZONE in found else b""
        yield UdpFlow(
            str(ipaddress.ip_address(destination)),
            _port(protocol[_DESTINATION_PORT]),
            str(ipaddress.ip_address(backend)),
            _port(answered[_SOURCE_PORT]),
            nested(_ORIGINAL, original) + zone,
        )


def forget(flow: UdpFlow, ipv6: bool) -> None:
    """Make the kernel forget a flow; one that has ended meanwhile is no error. Raises OSError."""
    try:
        request(_DELETE, 0, _header(ipv6) + flow.key, NETFILTER)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _header(ipv6: bool) -> bytes:
    return struct.pack("=BBH", socket.AF_INET6 if ipv6 else socket.AF_INET, 0, 0)


def _port(value: bytes) -> int:
    return int.from_bytes(value[:2], "big")
