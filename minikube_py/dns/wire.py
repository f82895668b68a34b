"""Questions and answers as packets, by dnslib. Pure.

An answer longer than the client can take (512 bytes, or what its EDNS option says; RFC 6891) is cut and marked, so that it asks by TCP.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import dnslib
from dnslib.buffer import BufferError as PacketError
from dnslib.label import DNSLabelError

from minikube_py.dns.zone import Answer, Record, Srv

TTL = 5
"""Seconds that clients may keep an answer, as CoreDNS's kubernetes plugin has it."""

MAX_UDP = 1232
NXDOMAIN, SERVFAIL, NOTIMP, FORMERR = dnslib.RCODE.NXDOMAIN, dnslib.RCODE.SERVFAIL, dnslib.RCODE.NOTIMP, dnslib.RCODE.FORMERR


class Question(NamedTuple):
    """One parsed question: `name` is lower-case, without the final dot; `size` is the largest UDP answer that the client takes."""

    packet: dnslib.DNSRecord
    name: str
    type: str
    size: int


def parse(packet: bytes) -> Question | None:
    """The question in a packet; None where it holds no single question that can be read."""
    try:
        record = dnslib.DNSRecord.parse(packet)
    except (dnslib.DNSError, DNSLabelError, PacketError, ValueError, IndexError, struct.error):
        return None
    if record.header.qr or len(record.questions) != 1:
        return None
    question = record.questions[0]
    size = next((max(512, min(extra.rclass, MAX_UDP)) for extra in record.ar if extra.rtype == dnslib.QTYPE.OPT), 512)
    type_ = dnslib.QTYPE.forward.get(question.qtype, str(question.qtype))
    return Question(record, str(question.qname).rstrip(".").lower(), type_, size)


def answer(question: Question, found: Answer, domain: str, serial: int, chased: Sequence[dnslib.RR] = ()) -> bytes:
    """The authoritative answer of the zone; `chased` are the records of a CNAME's target."""
    reply = _reply(question)
    reply.header.aa = 1
    name = str(question.packet.q.qname)
    for record in found.records:
        reply.add_answer(_resource(name, record))
    for each in chased:
        reply.add_answer(each)
    for owner, record in found.extra:
        reply.add_ar(_resource(owner + ".", record))
    if not found.exists:
        reply.header.rcode = NXDOMAIN
    if not found.records:
        reply.add_auth(_start_of_authority(domain, serial))
    return bytes(reply.pack())


def failure(question: Question, code: int) -> bytes:
    """An answer that says only why there is none."""
    reply = _reply(question)
    reply.header.rcode = code
    return bytes(reply.pack())


def unreadable(packet: bytes) -> bytes | None:
    """The answer to a packet that is no question: FORMERR where it has a header and asks something, else silence."""
    if len(packet) < 12 or packet[2] & 0x80:
        return None
    return packet[:2] + bytes([0x80 | (packet[2] & 0x79), FORMERR]) + b"\0" * 8


def truncated(question: Question) -> bytes:
    """The answer that sends the client to TCP."""
    reply = _reply(question)
    reply.header.aa = 1
    reply.header.tc = 1
    return bytes(reply.pack())


def rotations(packet: bytes, limit: int = 8) -> list[bytes]:
    """The same answer with its address records in turn, so that clients which take the first share the load."""
    record = dnslib.DNSRecord.parse(packet)
    if len(record.rr) < 2 or any(rr.rtype not in (dnslib.QTYPE.A, dnslib.QTYPE.AAAA) for rr in record.rr):
        return [packet]
    turns = []
    for start in range(min(len(record.rr), limit)):
        turned = dnslib.DNSRecord(record.header, q=record.q, rr=record.rr[start:] + record.rr[:start], auth=record.auth, ar=record.ar)
        turns.append(bytes(turned.pack()))
    return turns


def _reply(question: Question) -> dnslib.DNSRecord:
    header = question.packet.header
    reply = dnslib.DNSRecord(dnslib.DNSHeader(id=header.id, qr=1, ra=1, rd=header.rd, opcode=header.opcode), q=question.packet.q)
    if any(extra.rtype == dnslib.QTYPE.OPT for extra in question.packet.ar):
        reply.add_ar(dnslib.EDNS0(udp_len=MAX_UDP))
    return reply


def _resource(name: str, record: Record) -> dnslib.RR:
    data: dnslib.RD
    match record.data:
        case Srv(port, target, weight):
            data = dnslib.SRV(0, weight, port, target + ".")
        case text:
            data = {"A": dnslib.A, "AAAA": dnslib.AAAA, "PTR": _pointer, "CNAME": _alias, "TXT": dnslib.TXT}[record.type](text)
    return dnslib.RR(name, getattr(dnslib.QTYPE, record.type), rdata=data, ttl=TTL)


def _pointer(name: str) -> dnslib.RD:
    return dnslib.PTR(name + ".")


def _alias(name: str) -> dnslib.RD:
    return dnslib.CNAME(name + ".")


def _start_of_authority(domain: str, serial: int) -> dnslib.RR:
    data = dnslib.SOA(f"ns.dns.{domain}.", f"hostmaster.{domain}.", (serial, 7200, 1800, 86400, TTL))
    return dnslib.RR(domain + ".", dnslib.QTYPE.SOA, rdata=data, ttl=TTL)
