"""Asks the machine's own resolvers for names that are not the cluster's: packets are passed on as they are.

One resolver after the other is asked, a second each; how many questions may wait at once is bounded, and past that they are refused.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

_TIMEOUT = 1.0
_WAITING_BOUND = 1000

RESOLV_CONF = Path("/etc/resolv.conf")
SYSTEMD_RESOLV_CONF = Path("/run/systemd/resolve/resolv.conf")


class Unanswered(Exception):
    """No resolver answered, or there is none."""


class Resolver(NamedTuple):
    """Where a resolver listens."""

    ip: str
    port: int = 53


def parse_resolv_conf(text: str) -> list[Resolver]:
    """The resolvers of a resolv.conf, in order."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            found.append(Resolver(words[1].partition("%")[0]))
    return found


def machine_resolvers(own: str) -> list[Resolver]:
    """The machine's resolvers without this one: a cluster that asks itself would never stop."""
    for path in (SYSTEMD_RESOLV_CONF, RESOLV_CONF):
        try:
            return [r for r in parse_resolv_conf(path.read_text()) if r.ip != own]
        except OSError:
            continue
    return []


class Forwarder:
    """Passes questions on."""

    def __init__(self, resolvers: Sequence[Resolver]) -> None:
        self._resolvers = tuple(resolvers)
        self._waiting = 0

    async def ask(self, packet: bytes, tcp: bool) -> bytes:
        """The answer of the first resolver that gives one. Raises Unanswered."""
        if self._waiting >= _WAITING_BOUND:
            raise Unanswered("too many questions are waiting")
        self._waiting += 1
        try:
            for resolver in self._resolvers:
                try:
                    async with asyncio.timeout(_TIMEOUT * (3 if tcp else 1)):
                        return await (_ask_tcp if tcp else _ask_udp)(resolver, packet)
                except (TimeoutError, OSError, EOFError) as error:
                    log.debug("resolver did not answer", extra={"resolver": resolver.ip, "error": str(error)})
        finally:
            self._waiting -= 1
        raise Unanswered("no resolver answered")


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, id_: bytes, answered: asyncio.Future[bytes]) -> None:
        self._id, self._answered = id_, answered

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        if data[:2] == self._id and not self._answered.done():
            self._answered.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)


async def _ask_udp(resolver: Resolver, packet: bytes) -> bytes:
    """A fresh socket and id for each question: an answer cannot be forged by guessing one port (RFC 5452)."""
    loop = asyncio.get_running_loop()
    id_ = secrets.token_bytes(2)
    answered: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(id_, answered), remote_addr=resolver)
    try:
        transport.sendto(id_ + packet[2:])
        return packet[:2] + (await answered)[2:]
    finally:
        transport.close()


async def _ask_tcp(resolver: Resolver, packet: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*resolver)
    try:
        writer.write(len(packet).to_bytes(2, "big") + packet)
        size = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(size)
    finally:
        writer.close()
