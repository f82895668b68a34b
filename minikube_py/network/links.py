"""What the node's own part of the pod network asks of the kernel: a few sysctls, the state of interfaces, the pods' range made unreachable.

All calls are blocking and act on the calling thread's network namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import ipaddress
import socket
import struct
import subprocess
from pathlib import Path
from typing import Final

from minikube_py.netlink import REPLACE, attribute, request

_RTM_DELLINK, _RTM_NEWROUTE, _RTM_DELROUTE = 17, 24, 25
_RTA_DST, _RTA_PRIORITY = 1, 6
_RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNREACHABLE = 254, 4, 0, 7
_RTF_REJECT: Final = 0x200
_SIOCGIFADDR, _SIOCGIFMTU, _SIOCSIFMTU, _SIOCETHTOOL = 0x8915, 0x8921, 0x8922, 0x8946
_ETHTOOL_GTXCSUM, _ETHTOOL_STXCSUM = 0x16, 0x17
# After every route that leads somewhere.
_LAST_PRIORITY: Final = 4_294_967_295


def set_sysctls(ipv6: bool) -> list[str]:
    """Turn on forwarding and iptables for bridged packets; what could not be set, as texts for a log."""
    if not Path("/proc/sys/net/bridge").exists():
        with contextlib.suppress(FileNotFoundError):  # a machine without modules has what it has
            subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
    wanted = {"net/ipv4/ip_forward": "1", "net/bridge/bridge-nf-call-iptables": "1"}
    if ipv6:
        wanted |= {"net/ipv6/conf/all/forwarding": "1", "net/bridge/bridge-nf-call-ip6tables": "1"}
    problems = []
    for name, value in wanted.items():
        path = Path("/proc/sys") / name
        try:
            if path.read_text().strip() != value:
                path.write_text(value)
        except OSError as error:
            problems.append(f"{name.replace('/', '.')}: {error.strerror}")
    return problems


def uplink_mtu() -> int:
    """The MTU of the interface of the default route; 0 where there is none."""
    for path, target in (("route", "00000000"), ("ipv6_route", "0" * 32)):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/thread-self/net/{path}").read_text().splitlines():
                fields = line.split()
                name, destination = (fields[0], fields[1]) if path == "route" else (fields[-1], fields[0])
                if destination == target and name != "lo":
                    return mtu_of(name)
    return 0


def mtu_of(interface: str) -> int:
    """The MTU of an interface; 0 where it does not exist."""
    try:
        return int(struct.unpack_from("16xi", _ask(interface, _SIOCGIFMTU))[0])
    except OSError:
        return 0


def mtu_by_address(address: str) -> int:
    """The MTU of the interface whose first IPv4 address is this one, else of the default route's; 0 where there is neither."""
    for _, name in socket.if_nameindex():
        if str(address_of(name)) == address:
            return mtu_of(name)
    return uplink_mtu()


def address_of(interface: str) -> ipaddress.IPv4Address | None:
    """The first IPv4 address of an interface; None where it has none or does not exist."""
    try:
        return ipaddress.IPv4Address(_ask(interface, _SIOCGIFADDR)[20:24])
    except OSError:
        return None


def set_checksum_offload(interface: str, on: bool) -> None:
    """Let the interface leave checksums of what it sends to the hardware below, or compute them. Raises OSError."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_STXCSUM, on))
    command = struct.pack("16sP", interface.encode()[:15], ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking.fileno(), _SIOCETHTOOL, command.ljust(40, b"\0"))


def checksum_offload(interface: str) -> bool:
    """Whether checksums of what it sends are left to the hardware below. Raises OSError."""
    value = ctypes.create_string_buffer(struct.pack("=II", _ETHTOOL_GTXCSUM, 0))
    command = struct.pack("16sP", interface.encode()[:15], ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking.fileno(), _SIOCETHTOOL, command.ljust(40, b"\0"))
    return bool(struct.unpack("=II", value.raw[:8])[1])


def set_mtu(interface: str, mtu: int) -> None:
    """Set the MTU of an interface. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking.fileno(), _SIOCSIFMTU, struct.pack("16si", interface.encode()[:15], mtu).ljust(40, b"\0"))


def delete_link(name: str) -> None:
    """Remove an interface. Idempotent."""
    with contextlib.suppress(OSError):
        index = socket.if_nametoindex(name)
        request(_RTM_DELLINK, 0, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, 0, 0))


def reject_range(cidr: str) -> None:
    """Make addresses of a range that no other route covers unreachable, so that nothing for them leaves the machine. Idempotent."""
    request(_RTM_NEWROUTE, REPLACE, _unreachable(cidr))


def allow_range(cidr: str) -> None:
    """Take `reject_range` back. Idempotent."""
    try:
        request(_RTM_DELROUTE, 0, _unreachable(cidr))
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise


def rejected_ranges() -> list[str]:
    """The IPv4 ranges for which `reject_range` was called."""
    found = []
    for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & _RTF_REJECT and int(fields[6]) % (1 << 32) == _LAST_PRIORITY:
            address, mask = (ipaddress.IPv4Address(bytes.fromhex(field)[::-1]) for field in (fields[1], fields[7]))
            found.append(f"{address}/{bin(int(mask)).count('1')}")
    return found


def _unreachable(cidr: str) -> bytes:
    network = ipaddress.ip_network(cidr)
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    header = struct.pack(
        "=BBBBBBBBI", family, network.prefixlen, 0, 0, _RT_TABLE_MAIN, _RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RTN_UNREACHABLE, 0
    )
    return header + attribute(_RTA_DST, network.network_address.packed) + attribute(_RTA_PRIORITY, struct.pack("=I", _LAST_PRIORITY))


def _ask(interface: str, request: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        return fcntl.ioctl(asking.fileno(), request, struct.pack("256s", interface.encode()[:15]))
