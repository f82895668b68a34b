"""Requests to the kernel by netlink, packed by hand: a library for it would cost more memory than what uses it.

All calls are blocking and act on the calling thread's network namespace; only `MachineChanges` is the loop's.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Final

ROUTE: Final = socket.NETLINK_ROUTE
NETFILTER: Final = 12  # NETLINK_NETFILTER
ACKNOWLEDGE: Final = 0x5  # NLM_F_REQUEST | NLM_F_ACK
REPLACE: Final = 0x500  # NLM_F_CREATE | NLM_F_REPLACE
EXCLUSIVE: Final = 0x600  # NLM_F_CREATE | NLM_F_EXCL
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
_ERROR, _DONE = 2, 3
_NESTED: Final = 0x8000
_TYPE_MASK: Final = 0x3FFF


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds others."""
    return attribute(kind | _NESTED, b"".join(attributes))


def request(kind: int, flags: int, payload: bytes, family: int = ROUTE) -> None:
    """One request and its acknowledgement. Raises OSError with the kernel's errno."""
    with _socket(family) as kernel:
        kernel.send(_message(kind, ACKNOWLEDGE | flags, payload))
        code = struct.unpack_from("=i", kernel.recv(65536), 16)[0]
    if code:
        raise OSError(-code, os.strerror(-code))


def dump(kind: int, payload: bytes, family: int = ROUTE) -> Iterator[bytes]:
    """What the kernel has of a kind, each without netlink's header. Raises OSError."""
    with _socket(family) as kernel:
        kernel.send(_message(kind, _DUMP, payload))
        while True:
            data, at = kernel.recv(1 << 20), 0
            while at < len(data):
                length, message = struct.unpack_from("=IH", data, at)
                if message == _DONE:
                    return
                if message == _ERROR:
                    code = struct.unpack_from("=i", data, at + 16)[0]
                    raise OSError(-code, os.strerror(-code))
                yield data[at + 16 : at + length]
                at += (length + 3) & ~3


def attributes(data: bytes, at: int) -> Mapping[int, bytes]:
    """The attributes that follow a header of `at` bytes."""
    found = {}
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


def _socket(family: int) -> socket.socket:
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
    kernel.bind((0, 0))
    kernel.settimeout(5)
    return kernel


def _message(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload


class MachineChanges:
    """Tells listeners that links, addresses or routes of this machine have changed: whoever cares looks what became of them.

    Changes are gathered for a moment: a pod that starts makes a handful."""

    _GROUPS: Final = 0x1 | 0x10 | 0x40 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR

    def __init__(self, settle_seconds: float = 0.3) -> None:
        self._settle = settle_seconds
        self._listeners: tuple[Callable[[], None], ...] = ()

    def listen(self, listener: Callable[[], None]) -> None:
        """Be told from now on."""
        self._listeners = (*self._listeners, listener)

    async def run(self) -> None:
        """Follow the kernel until cancelled. Raises OSError."""
        loop, seen = asyncio.get_running_loop(), asyncio.Event()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, ROUTE) as kernel:
            kernel.setblocking(False)
            kernel.bind((0, self._GROUPS))

            def readable() -> None:
                try:
                    kernel.recv(1 << 16)
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno != errno.ENOBUFS:  # more than fits came at once: that something has changed is all that is asked
                        raise
                seen.set()

            loop.add_reader(kernel, readable)
            try:
                while True:
                    await seen.wait()
                    await asyncio.sleep(self._settle)
                    seen.clear()
                    for listener in self._listeners:
                        listener()
            finally:
                loop.remove_reader(kernel)
