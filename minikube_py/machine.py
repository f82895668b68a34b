"""Facts of the machine that a server or agent starts on: its name and its address. Nothing is sent to learn them."""

from __future__ import annotations

import fcntl
import re
import socket
import struct

_SIOCGIFADDR, _SIOCGIFFLAGS = 0x8915, 0x8913
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_DOCUMENTATION_ADDRESS = "192.0.2.1"


class NoAddress(Exception):
    """The machine has no address that a node could go by; the message says what to do."""


def node_name() -> str:
    """The host name as a node name: lower-case, without what a DNS name may not have."""
    return re.sub(r"[^a-z0-9.-]", "-", socket.gethostname().lower()).strip("-.") or "localhost"


def has_address(ip: str) -> bool:
    """Whether an address is one of this machine's, by asking for a socket on it."""
    with socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((ip, 0))
        except OSError:
            return False
    return True


def node_address() -> str:
    """The IPv4 address that the default route uses, or else the first of an interface that is up. Raises NoAddress."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # connecting a datagram socket only chooses a route
            probe.connect((_DOCUMENTATION_ADDRESS, 9))
            address = str(probe.getsockname()[0])
            if not address.startswith("127."):
                return address
        except OSError:
            pass
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(probe, _SIOCGIFFLAGS, request), 16)[0]
                if flags & _IFF_UP and not flags & _IFF_LOOPBACK:
                    return socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])
            except OSError:
                continue
    raise NoAddress("this machine has no IPv4 address beside the loopback's: give one with --node-ip")
