"""Cluster addresses and node ports: unique, given back, repaired; on the real API server."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikube_py.apiserver import address_pool
from minikube_py.apiserver.allocation import ServiceAllocator
from minikube_py.apiserver.allocation_repair import AllocationRepair, Held, plan
from minikube_py.client import Client
from minikube_py.meta.errors import InternalError, Invalid, StatusError
from minikube_py.types.network import IPAddress, Service
from tests.apiserver.trusted import SERVICE_CIDR, SettableClock, trusted_server
from tests.support.api import ApiUnderTest

PORTS = range(30000, 30050)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with trusted_server(tmp_path, node_ports=PORTS) as running:
        yield running


def service(name: str, ports: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"ports": ports or [{"port": 80}], **spec}}


async def create(client: Client, name: str, ports: list[dict[str, Any]] | None = None, **spec: Any) -> Service:
    return await client.create(Service, service(name, ports, **spec), "default")


async def addresses(client: Client) -> dict[str, str]:
    return {a.metadata.name: a.spec.parentRef.name for a in (await client.list(IPAddress)).items}


async def held_ports(server: ApiUnderTest) -> set[int]:
    records = (await server.store.range("/registry/minikube-py/nodeports/")).records
    return {int(record.key.rsplit("/", 1)[1]) for record in records}


async def refused(attempt: Any, error: type[StatusError] = Invalid) -> str:
    with pytest.raises(error) as caught:
        await attempt
    return caught.value.message


# Policy


@given(st.integers(min_value=20, max_value=30), st.integers(min_value=0))
def test_every_address_is_tried_once_the_dynamic_part_first(prefix: int, seed: int) -> None:
    network = ipaddress.ip_network(f"10.96.0.0/{prefix}")
    tried = list(address_pool.addresses(network, lambda below: seed % below))
    assert sorted(map(ipaddress.ip_address, tried)) == list(network.hosts())
    static = address_pool.static_part(network.num_addresses, 16, 256)
    kept = {str(network.network_address + 1 + i) for i in range(static)}
    assert not kept & set(tried[: len(tried) - len(kept)])


@pytest.mark.parametrize(("size", "kept"), [(8, 0), (16, 0), (64, 16), (256, 16), (4096, 256), (65536, 256)])
def test_the_part_kept_for_those_who_ask_is_upstreams(size: int, kept: int) -> None:
    assert address_pool.static_part(size, 16, 256) == kept


def test_the_default_node_ports_keep_86_for_those_who_ask() -> None:
    first = next(address_pool.ports(range(30000, 32768), lambda below: 0))
    assert first == 30086


def test_a_repair_plan_names_what_is_missing_leaked_and_doubled() -> None:
    a, b, gone = ("ns", "a"), ("ns", "b"), ("ns", "gone")
    held = {"1": Held(a, 5), "2": Held(gone, 6), "3": Held(gone, 7, ours=False), "4": Held(b, 8)}
    found = plan([("1", a), ("9", b), ("4", a), ("1", b)], held)
    assert found.make == {"9": b}
    assert found.orphans == {"2": 6, "4": 8}
    assert found.conflicts == [("1", a, b)]


# Addresses


async def test_a_service_gets_an_address_and_gives_it_back(server: ApiUnderTest) -> None:
    client = server.client()
    made = await create(client, "web")
    assert ipaddress.ip_address(made.spec.clusterIP) in ipaddress.ip_network(SERVICE_CIDR)
    assert made.spec.clusterIPs == (made.spec.clusterIP,)
    assert (made.spec.ipFamilies, made.spec.ipFamilyPolicy) == (("IPv4",), "SingleStack")
    assert await addresses(client) == {made.spec.clusterIP: "web"}
    address = await client.get(IPAddress, made.spec.clusterIP)
    assert address.metadata.labels["ipaddress.kubernetes.io/managed-by"] == "ipallocator.k8s.io"
    await client.delete(Service, "web", "default")
    assert await addresses(client) == {}


async def test_a_wanted_address_is_unique_and_in_the_range(server: ApiUnderTest) -> None:
    client = server.client()
    assert (await create(client, "one", clusterIP="10.43.0.7")).spec.clusterIPs == ("10.43.0.7",)
    message = await refused(create(client, "two", clusterIP="10.43.0.7"))
    assert message.endswith("failed to allocate IP 10.43.0.7: provided IP is already allocated")
    message = await refused(create(client, "two", clusterIP="192.0.2.1"))
    assert message.endswith("failed to allocate IP 192.0.2.1: the provided network does not match the current range")
    assert "must be a valid IP address" in await refused(create(client, "two", clusterIP="nonsense"))
    assert await addresses(client) == {"10.43.0.7": "one"}


async def test_headless_and_external_services_have_no_address(server: ApiUnderTest) -> None:
    client = server.client()
    headless = await create(client, "headless", clusterIP="None", selector={"a": "b"})
    assert (headless.spec.clusterIPs, headless.spec.ipFamilies) == (("None",), ("IPv4",))
    selectorless = await create(client, "selectorless", clusterIP="None")
    assert (selectorless.spec.ipFamilies, selectorless.spec.ipFamilyPolicy) == (("IPv4", "IPv6"), "RequireDualStack")
    external = await create(client, "external", type="ExternalName", externalName="example.org")
    assert (external.spec.clusterIP, external.spec.ipFamilies, external.spec.ipFamilyPolicy) == ("", (), "")
    assert await addresses(client) == {}


async def test_dual_stack_is_refused_on_a_single_stack_cluster(server: ApiUnderTest) -> None:
    client = server.client()
    assert "this cluster is not configured for dual-stack services" in await refused(create(client, "d", ipFamilyPolicy="RequireDualStack"))
    assert "not configured on this cluster" in await refused(create(client, "d", ipFamilies=["IPv6"]))
    preferred = await create(client, "p", ipFamilyPolicy="PreferDualStack")
    assert preferred.spec.ipFamilies == ("IPv4",)


async def test_an_update_keeps_what_was_allocated(server: ApiUnderTest) -> None:
    client = server.client()
    made = await create(client, "web", type="NodePort")
    again = await client.update(Service, service("web", [{"port": 81}], type="NodePort"), "web", "default")
    assert (again.spec.clusterIP, again.spec.ports[0].nodePort) == (made.spec.clusterIP, made.spec.ports[0].nodePort)
    unchanged = await client.update(Service, service("web", [{"port": 81}], type="NodePort"), "web", "default")
    assert unchanged.metadata.resourceVersion == again.metadata.resourceVersion


async def test_the_address_follows_the_type(server: ApiUnderTest) -> None:
    client = server.client()
    made = await create(client, "web", type="NodePort")
    external = {"type": "ExternalName", "externalName": "example.org", "clusterIP": None, "clusterIPs": None, "ports": None}
    patch = {"spec": {**external, "ipFamilies": None, "ipFamilyPolicy": None, "internalTrafficPolicy": None}}
    await client.patch(Service, "web", patch, "default")
    assert await addresses(client) == {}
    assert await held_ports(server) == set()
    back = await client.patch(Service, "web", {"spec": {"type": "ClusterIP", "externalName": None, "ports": [{"port": 80}]}}, "default")
    assert await addresses(client) == {back.spec.clusterIP: "web"}
    assert made.spec.clusterIP


async def test_a_refused_create_leaves_nothing_behind(server: ApiUnderTest) -> None:
    client = server.client()
    bad = {"metadata": {"name": "Bad_Name"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}
    await refused(client.create(Service, bad, "default"))
    await create(client, "taken", clusterIP="None", selector={"a": "b"})
    with pytest.raises(StatusError):
        await create(client, "taken", type="NodePort")
    assert await addresses(client) == {}
    assert await held_ports(server) == set()


async def test_whoever_goes_away_in_the_middle_leaves_no_service_without_its_address_and_ports(server: ApiUnderTest) -> None:
    client = server.client()
    for rounds in range(60):
        creating = asyncio.create_task(create(client, f"cut-{rounds}", type="NodePort"))
        await asyncio.sleep(rounds * 0.0003)
        creating.cancel()
        await asyncio.wait([creating])
    await create(client, "after")
    services = (await client.list(Service, "default")).items
    assert len(services) > 1
    held, ports = await addresses(client), await held_ports(server)
    for one in services:
        assert held[one.spec.clusterIP] == one.metadata.name
        assert ports >= {port.nodePort for port in one.spec.ports if port.nodePort}


async def test_a_dry_run_takes_nothing(server: ApiUnderTest) -> None:
    answer = await server.http("POST", "/api/v1/namespaces/default/services?dryRun=All", service("web", type="NodePort"))
    assert answer.status == 201
    assert answer.json["spec"]["clusterIP"]
    assert answer.json["spec"]["ports"][0]["nodePort"] in PORTS
    assert await addresses(server.client()) == {}
    assert await held_ports(server) == set()


async def test_many_at_once_get_different_values(server: ApiUnderTest) -> None:
    client = server.client()
    made = await asyncio.gather(*(create(client, f"s{i}", type="NodePort") for i in range(40)))
    assert len({s.spec.clusterIP for s in made}) == 40
    assert len({s.spec.ports[0].nodePort for s in made}) == 40


async def test_a_full_range_says_so(tmp_path: Path) -> None:
    async with trusted_server(tmp_path, service_cidr="10.43.0.0/30", node_ports=range(30000, 30001)) as server:
        client = server.client()
        await create(client, "a", type="NodePort")
        message = await refused(create(client, "b", type="NodePort"), InternalError)
        assert message == "Internal error occurred: failed to allocate a nodePort: range is full"
        assert len(await addresses(client)) == 1, "the address of the refused service was given back"
        await create(client, "b")
        message = await refused(create(client, "c"), InternalError)
        assert message == 'Internal error occurred: failed to allocate a serviceIP for Service "c": range is full'


# Node ports


async def test_wanted_node_ports(server: ApiUnderTest) -> None:
    client = server.client()
    await create(client, "one", [{"port": 80, "nodePort": 30007}], type="NodePort")
    message = await refused(create(client, "two", [{"port": 80, "nodePort": 30007}], type="NodePort"))
    assert message == 'Service "two" is invalid: spec.ports[0].nodePort: Invalid value: 30007: provided port is already allocated'
    message = await refused(create(client, "two", [{"port": 80, "nodePort": 80}], type="NodePort"))
    assert message.endswith("provided port is not in the valid range. The range of valid ports is 30000-30049")
    assert len(await addresses(client)) == 1


async def test_tcp_and_udp_of_one_port_share_a_node_port(server: ApiUnderTest) -> None:
    ports = [{"name": "tcp", "port": 53}, {"name": "udp", "port": 53, "protocol": "UDP"}, {"name": "other", "port": 54}]
    made = await create(server.client(), "dns", ports, type="NodePort")
    first, second, third = (port.nodePort for port in made.spec.ports)
    assert first == second != third
    assert await held_ports(server) == {first, third}


async def test_node_ports_come_and_go_with_updates(server: ApiUnderTest) -> None:
    client = server.client()
    made = await create(client, "web", [{"name": "a", "port": 80}, {"name": "b", "port": 81}], type="NodePort")
    a, b = (port.nodePort for port in made.spec.ports)
    fewer = await client.update(Service, service("web", [{"name": "b", "port": 81}], type="NodePort"), "web", "default")
    assert [port.nodePort for port in fewer.spec.ports] == [b]
    assert await held_ports(server) == {b}
    wanted = [{"name": "b", "port": 81, "nodePort": a}]
    await client.update(Service, service("web", wanted, type="NodePort"), "web", "default")
    assert await held_ports(server) == {a}
    await client.delete(Service, "web", "default")
    assert await held_ports(server) == set()


async def test_a_local_load_balancer_has_a_health_check_port(server: ApiUnderTest) -> None:
    client = server.client()
    made = await create(client, "lb", type="LoadBalancer", externalTrafficPolicy="Local")
    assert await held_ports(server) == {made.spec.ports[0].nodePort, made.spec.healthCheckNodePort}
    message = await refused(
        create(client, "lb2", type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=made.spec.healthCheckNodePort),
        InternalError,
    )
    assert "failed to allocate requested HealthCheck NodePort" in message
    assert message.endswith("provided port is already allocated")
    bare = await create(client, "bare", type="LoadBalancer", allocateLoadBalancerNodePorts=False)
    assert bare.spec.ports[0].nodePort == 0


# Repair


def repair_of(server: ApiUnderTest, clock: SettableClock) -> AllocationRepair:
    client = server.client("system:apiserver")
    allocator = ServiceAllocator(client, server.cache, server.store, service_cidrs=[SERVICE_CIDR], node_ports=PORTS)
    return AllocationRepair(allocator, client, server.cache, server.store, clock)


async def test_missing_allocations_are_made_again(server: ApiUnderTest) -> None:
    client = server.client()
    made = await create(client, "web", type="NodePort")
    port = made.spec.ports[0].nodePort
    await client.delete(IPAddress, made.spec.clusterIP)
    allocator = ServiceAllocator(client, server.cache, server.store, service_cidrs=[SERVICE_CIDR], node_ports=PORTS)
    await allocator.ports.give_back(port, ("default", "web"))
    assert await repair_of(server, SettableClock()).repair() is None
    assert await addresses(client) == {made.spec.clusterIP: "web"}
    assert await held_ports(server) == {port}


async def test_leaks_are_taken_back_after_a_minute(server: ApiUnderTest) -> None:
    client, clock = server.client(), SettableClock()
    repair = repair_of(server, clock)
    kept = await create(client, "web", clusterIP="10.43.0.97")
    leaked = {"metadata": {"name": "10.43.0.99", "labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}}}
    parent = {"group": "", "resource": "services", "namespace": "default", "name": "never-made"}
    await client.create(IPAddress, {**leaked, "spec": {"parentRef": parent}})
    foreign = {"metadata": {"name": "10.43.0.98"}, "spec": {"parentRef": {**parent, "resource": "gateways", "group": "acme.com"}}}
    await client.create(IPAddress, foreign)
    allocator = ServiceAllocator(client, server.cache, server.store, service_cidrs=[SERVICE_CIDR], node_ports=PORTS)
    assert await allocator.ports.take(30042, ("default", "never-made"), False)
    again = await repair.repair()
    assert again is not None and 0 < again <= 60
    assert "10.43.0.99" in await addresses(client)
    clock.offset = 61
    assert await repair.repair() is None
    assert set(await addresses(client)) == {kept.spec.clusterIP, "10.43.0.98"}
    assert await held_ports(server) == set()


async def test_a_crash_between_address_and_service_does_not_stand_in_the_way(server: ApiUnderTest) -> None:
    client = server.client()
    allocator = ServiceAllocator(client, server.cache, server.store, service_cidrs=[SERVICE_CIDR], node_ports=PORTS)
    await allocator.addresses.take("10.43.0.1", ("default", "kubernetes"), False)
    made = await create(client, "kubernetes", clusterIP="10.43.0.1")
    assert made.spec.clusterIP == "10.43.0.1"
