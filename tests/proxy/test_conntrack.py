"""Stale UDP flows: which they are, and that the kernel forgets them."""

from __future__ import annotations

import os
import socket

import pytest

from minikube_py.netfilter.flows import UdpFlow, forget, udp_flows
from minikube_py.proxy.conntrack import changed, stale, targets
from minikube_py.proxy.model import Backend, ServicePort
from tests.support.netns import entered, namespace, run

A, B = Backend("10.42.0.2", 53), Backend("10.42.0.3", 53)


def udp(*serving: Backend, protocol: str = "udp") -> ServicePort:
    return ServicePort("d/dns", protocol, "10.43.0.9", 53, 30053, (), (), (), 0, False, False, serving, (), serving)


def flow(ip: str, port: int, backend: str, backend_port: int = 53) -> UdpFlow:
    return UdpFlow(ip, port, backend, backend_port, b"")


def test_what_somebody_left_or_first_came_to_is_looked_at() -> None:
    two, one, none = targets([udp(A, B)]), targets([udp(B)]), targets([udp()])
    assert changed(two, one) == {("10.43.0.9", 53): {B}, ("", 30053): {B}}
    assert changed(one, {}) == changed(one, none) == {("10.43.0.9", 53): frozenset(), ("", 30053): frozenset()}
    assert changed(none, one) == changed({}, one) == {("10.43.0.9", 53): {B}, ("", 30053): {B}}
    assert changed(one, one) == changed(one, two) == changed(none, {}) == {}
    assert targets([udp(A, protocol="tcp")]) == {}


def test_a_flow_is_stale_that_leads_to_nobody_who_serves() -> None:
    about = changed(targets([udp(A, B)]), targets([udp(B)]))
    to_a, to_b = flow("10.43.0.9", 53, A.ip), flow("10.43.0.9", 53, B.ip)
    untranslated, by_node_port = flow("10.43.0.9", 53, "10.43.0.9"), flow("192.0.2.1", 30053, A.ip)
    strange = flow("10.43.0.9", 54, A.ip)
    assert list(stale([to_a, to_b, untranslated, by_node_port, strange], about)) == [to_a, untranslated, by_node_port]


def test_a_port_of_the_node_that_is_no_services_any_more_may_be_anybodys() -> None:
    about = changed(targets([udp(A)]), {})
    assert list(stale([flow("192.0.2.1", 30053, "192.0.2.1", 30053)], about)) == []
    assert len(list(stale([flow("192.0.2.1", 30053, A.ip)], about))) == 1


@pytest.mark.cluster
@pytest.mark.parametrize("ipv6", [False, True])
def test_the_kernel_tells_its_flows_and_forgets_one(ipv6: bool) -> None:
    name = f"mkpyct{os.getpid()}"
    program, localhost = ("ip6tables-legacy", "::1") if ipv6 else ("iptables-legacy", "127.0.0.1")
    with namespace(name), entered(name):
        to = f"[{localhost}]:5301" if ipv6 else f"{localhost}:5301"
        run(program, "-t", "nat", "-A", "OUTPUT", "-p", "udp", "--dport", "5300", "-j", "DNAT", "--to-destination", to)
        with socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"?", (localhost, 5300))
            client.sendto(b"?", (localhost, 5999))
            found = {(f.destination, f.port): f for f in udp_flows(ipv6)}
            assert found[localhost, 5300][2:4] == (localhost, 5301)
            forget(found[localhost, 5300], ipv6)
            assert {f.port for f in udp_flows(ipv6)} & {5300, 5999} == {5999}
            forget(found[localhost, 5300], ipv6)
