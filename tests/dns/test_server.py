"""Questions over real sockets on the loopback interface."""

import asyncio
import socket
from collections.abc import AsyncIterator

import dnslib
import pytest

from minikube_py.dns.forward import Forwarder, Resolver, parse_resolv_conf
from minikube_py.dns.server import DnsServer
from minikube_py.dns.zone import Zone
from tests.dns.test_zone import headless, service, slice_of


async def ask(port: int, name: str, type_: str = "A", *, tcp: bool = False, edns: bool = False) -> dnslib.DNSRecord:
    question = dnslib.DNSRecord.question(name, type_)
    if edns:
        question.add_ar(dnslib.EDNS0(udp_len=4096))
    return await asyncio.to_thread(lambda: dnslib.DNSRecord.parse(question.send("127.0.0.1", port, tcp=tcp, timeout=5)))


@pytest.fixture
async def upstream() -> AsyncIterator[tuple[DnsServer, Zone]]:
    """A resolver of the machine's: it knows example.org only."""
    zone = Zone("example.org")
    zone._put("x", {"example.org": []})
    zone.set_service("shop/web", service(), [])
    server = DnsServer(zone, Forwarder([]))
    await server.start("127.0.0.1", 0)
    yield server, zone
    await server.close()


@pytest.fixture
async def server(upstream: tuple[DnsServer, Zone]) -> AsyncIterator[tuple[DnsServer, Zone]]:
    zone = Zone("cluster.local")
    made = DnsServer(zone, Forwarder([Resolver("127.0.0.1", upstream[0].port)]))
    await made.start("127.0.0.1", 0)
    yield made, zone
    await made.close()


async def test_udp_and_tcp_answer_alike(server: tuple[DnsServer, Zone]) -> None:
    server[1].set_service("shop/web", service(), [])
    for tcp in (False, True, False):
        reply = await ask(server[0].port, "WEB.shop.svc.cluster.local", tcp=tcp)
        assert [str(rr.rdata) for rr in reply.rr] == ["10.43.0.7"]
        assert reply.header.aa
        assert str(reply.q.qname) == "WEB.shop.svc.cluster.local."


async def test_no_such_name_and_no_such_data_carry_the_authority(server: tuple[DnsServer, Zone]) -> None:
    server[1].set_service("shop/web", service(), [])
    missing = await ask(server[0].port, "nope.shop.svc.cluster.local")
    assert missing.header.rcode == dnslib.RCODE.NXDOMAIN
    assert missing.auth[0].rtype == dnslib.QTYPE.SOA
    empty = await ask(server[0].port, "web.shop.svc.cluster.local", "AAAA")
    assert (empty.header.rcode, empty.rr) == (dnslib.RCODE.NOERROR, [])


async def test_a_change_is_seen_at_once(server: tuple[DnsServer, Zone]) -> None:
    dns, zone = server
    assert (await ask(dns.port, "web.shop.svc.cluster.local")).header.rcode == dnslib.RCODE.NXDOMAIN
    zone.set_service("shop/web", service(), [])
    dns.zone_changed()
    assert (await ask(dns.port, "web.shop.svc.cluster.local")).rr


async def test_several_addresses_take_turns(server: tuple[DnsServer, Zone]) -> None:
    server[1].set_service("shop/web", headless(), slice_of(*({"addresses": [f"10.42.0.{i}"]} for i in range(2, 5))))
    firsts = {str((await ask(server[0].port, "web.shop.svc.cluster.local")).rr[0].rdata) for _ in range(6)}
    assert len(firsts) == 3


async def test_a_long_answer_is_cut_by_udp_and_whole_by_tcp(server: tuple[DnsServer, Zone]) -> None:
    server[1].set_service("shop/web", headless(), slice_of(*({"addresses": [f"10.42.1.{i}"]} for i in range(1, 101))))
    cut = await ask(server[0].port, "web.shop.svc.cluster.local")
    assert cut.header.tc
    assert len((await ask(server[0].port, "web.shop.svc.cluster.local", tcp=True)).rr) == 100


async def test_other_names_are_forwarded(server: tuple[DnsServer, Zone]) -> None:
    for tcp in (False, True):
        reply = await ask(server[0].port, "web.shop.svc.example.org", tcp=tcp)
        assert [str(rr.rdata) for rr in reply.rr] == ["10.43.0.7"]


async def test_an_external_name_brings_its_targets_address(server: tuple[DnsServer, Zone]) -> None:
    server[1].set_service(
        "shop/web", service(type="ExternalName", externalName="web.shop.svc.example.org", clusterIP="", clusterIPs=[]), []
    )
    reply = await ask(server[0].port, "web.shop.svc.cluster.local")
    assert [dnslib.QTYPE[rr.rtype] for rr in reply.rr] == ["CNAME", "A"]


async def test_no_resolver_is_a_server_failure(upstream: tuple[DnsServer, Zone]) -> None:
    assert (await ask(upstream[0].port, "somewhere.invalid")).header.rcode == dnslib.RCODE.SERVFAIL


async def test_garbage_is_answered_with_a_format_error_or_not_at_all(server: tuple[DnsServer, Zone]) -> None:
    server[1].set_service("shop/web", service(), [])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", server[0].port))
        udp.settimeout(5)
        udp.send(b"x")
        udp.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\xff\xff\xff")
        reply = await asyncio.to_thread(udp.recv, 512)
    assert dnslib.DNSRecord.parse(reply).header.rcode == dnslib.RCODE.FORMERR
    assert (await ask(server[0].port, "web.shop.svc.cluster.local", edns=True)).rr


def test_resolv_conf_is_read() -> None:
    assert parse_resolv_conf("# x\nnameserver 192.0.2.1\nsearch a\nnameserver fe80::1%eth0\n") == [
        Resolver("192.0.2.1"),
        Resolver("fe80::1"),
    ]
