"""The sockets: UDP and TCP on the cluster's DNS address, with a cache of whole answers.

The cache is keyed on the packet without its id, so that a hit costs one dictionary look-up and no parse; it is emptied whenever the zone
changes. A readable UDP socket is drained up to a bound before the loop goes on.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Iterator
from typing import Any

import dnslib

from minikube_py.aio import Tasks
from minikube_py.dns import wire
from minikube_py.dns.forward import Forwarder, Unanswered
from minikube_py.dns.zone import Zone

log = logging.getLogger(__name__)

_DRAIN = 64
_CACHE_BOUND = 10_000
_TCP_CONNECTIONS = 200
_TCP_IDLE = 10.0
_PORT_ATTEMPTS = 10


class DnsServer:
    """Answers for a zone on one address."""

    def __init__(self, zone: Zone, forwarder: Forwarder) -> None:
        self._zone, self._forwarder = zone, forwarder
        self._cache: dict[bytes, bytes | Iterator[bytes]] = {}  # an iterator gives the turns of a rotated answer
        self._serial = 1
        self._tasks = Tasks()
        self._udp: socket.socket | None = None
        self._tcp: asyncio.Server | None = None
        self._tcp_open = 0

    def zone_changed(self) -> None:
        """Forget cached answers."""
        self._cache.clear()
        self._serial += 1

    async def start(self, ip: str, port: int = 53) -> None:
        """Listen. Raises OSError."""
        for attempt in range(_PORT_ATTEMPTS):
            self._udp = self._bind(ip, port)
            try:
                self._tcp = await asyncio.start_server(self._serve_tcp, ip, self.port)
                break
            except OSError:
                self._udp.close()
                self._udp = None
                # a port that the kernel chose for UDP may be somebody's by TCP
                if port or attempt == _PORT_ATTEMPTS - 1:
                    raise
        if self._udp is not None:
            asyncio.get_running_loop().add_reader(self._udp, self._readable)

    @staticmethod
    def _bind(ip: str, port: int) -> socket.socket:
        udp = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            udp.setblocking(False)
            udp.bind((ip, port))
        except OSError:
            udp.close()
            raise
        return udp

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._udp is not None
        return int(self._udp.getsockname()[1])

    async def close(self) -> None:
        """Stop listening and drop what is being answered."""
        if self._udp is not None:
            asyncio.get_running_loop().remove_reader(self._udp)
            self._udp.close()
            self._udp = None
        if self._tcp is not None:
            self._tcp.close()
            self._tcp = None
        await self._tasks.close()

    def _readable(self) -> None:
        udp = self._udp
        if udp is None:
            return
        receive, send, cached = udp.recvfrom, udp.sendto, self._cache.get
        for _ in range(_DRAIN):
            try:
                packet, peer = receive(4096)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # an ICMP error of an earlier answer; the socket goes on
                log.debug("UDP receive failed", extra={"error": str(error)})
                continue
            found = cached(packet[2:])
            answer: bytes | None
            if found is None:
                answer = self._answer_udp(packet, peer)
                if answer is None:
                    continue
            else:
                answer = packet[:2] + (found if isinstance(found, bytes) else next(found))
            try:
                send(answer, peer)
            except OSError:
                continue

    def _answer_udp(self, packet: bytes, peer: tuple[Any, ...]) -> bytes | None:
        question = wire.parse(packet)
        if question is None:
            return wire.unreadable(packet)
        if question.name not in self._zone or question.packet.header.opcode != 0:
            if len(self._tasks) >= _CACHE_BOUND:
                return wire.failure(question, wire.SERVFAIL)
            self._tasks.spawn(self._later(packet, question, peer), "dns question")
            return None
        found = self._zone.lookup(question.name, question.type)
        if any(r.type == "CNAME" for r in found.records):
            self._tasks.spawn(self._later(packet, question, peer), "dns question")
            return None
        answer = wire.answer(question, found, self._zone.domain, self._serial)
        if len(answer) > question.size:
            answer = wire.truncated(question)
        if len(self._cache) >= _CACHE_BOUND:
            self._cache.clear()
        turns = wire.rotations(answer)
        self._cache[packet[2:]] = answer[2:] if len(turns) == 1 else itertools.cycle([turn[2:] for turn in turns])
        return answer

    async def _later(self, packet: bytes, question: wire.Question, peer: tuple[Any, ...]) -> None:
        answer = await self.resolve(packet, question, tcp=False)
        if len(answer) > question.size:
            answer = wire.truncated(question)
        if self._udp is not None:
            self._udp.sendto(answer, peer)

    async def resolve(self, packet: bytes, question: wire.Question, tcp: bool) -> bytes:
        """The whole answer to a question, whoever has it."""
        if question.packet.header.opcode != 0:
            return wire.failure(question, wire.NOTIMP)
        try:
            if question.name not in self._zone:
                return await self._forwarder.ask(packet, tcp)
            found = self._zone.lookup(question.name, question.type)
            alias = next((str(r.data) for r in found.records if r.type == "CNAME"), "")
            chased = await self._chase(alias, question.type, tcp) if alias and question.type in ("A", "AAAA") else ()
        except Unanswered as error:
            log.debug("question not answered", extra={"question": question.name, "error": str(error)})
            return wire.failure(question, wire.SERVFAIL)
        return wire.answer(question, found, self._zone.domain, self._serial, chased)

    async def _chase(self, alias: str, type_: str, tcp: bool, depth: int = 0) -> tuple[dnslib.RR, ...]:
        """The records of a CNAME's target: stub resolvers do not follow it themselves. A chain within the zone is bounded."""
        ask = dnslib.DNSRecord.question(alias, type_)
        if alias in self._zone:
            question = wire.parse(bytes(ask.pack()))
            found = self._zone.lookup(alias, type_)
            if question is None:
                return ()
            records = tuple(dnslib.DNSRecord.parse(wire.answer(question, found, self._zone.domain, self._serial)).rr)
            further = next((str(r.data) for r in found.records if r.type == "CNAME"), "")
            return records + (await self._chase(further, type_, tcp, depth + 1) if further and depth < 8 else ())
        return tuple(dnslib.DNSRecord.parse(await self._forwarder.ask(bytes(ask.pack()), tcp)).rr)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._tcp_open >= _TCP_CONNECTIONS:
            writer.close()
            return
        self._tcp_open += 1
        try:
            while True:
                async with asyncio.timeout(_TCP_IDLE):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    packet = await reader.readexactly(size)
                question = wire.parse(packet)
                answer = wire.unreadable(packet) if question is None else await self.resolve(packet, question, tcp=True)
                if answer is None:
                    return
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (TimeoutError, OSError, EOFError):
            return
        finally:
            self._tcp_open -= 1
            writer.close()
