"""The Service through which pods reach the API server."""

from __future__ import annotations

import asyncio
from pathlib import Path

from minikube_py.aio import Health
from minikube_py.apiserver.kubernetes_service import KubernetesService, is_as_wanted
from minikube_py.types.network import Endpoints, EndpointSlice, IPAddress, Service
from tests.apiserver.trusted import trusted_server
from tests.support.api import ApiUnderTest
from tests.support.waiting import until


def keeper(server: ApiUnderTest, address: str = "192.0.2.7", service_ip: str = "10.43.0.1") -> KubernetesService:
    client = server.client("system:apiserver")
    return KubernetesService(client, server.cache, server.store, service_ip=service_ip, address=address, port=6443)


async def test_it_is_made_once(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        client = server.client()
        assert await keeper(server).reconcile() == 3
        service = await client.get(Service, "kubernetes", "default")
        assert (service.spec.clusterIP, service.spec.ports[0].port, service.spec.ports[0].targetPort) == ("10.43.0.1", 443, 6443)
        assert service.metadata.labels == {"component": "apiserver", "provider": "kubernetes"}
        assert (await client.get(IPAddress, "10.43.0.1")).spec.parentRef.name == "kubernetes"
        endpoints = await client.get(Endpoints, "kubernetes", "default")
        assert [a.ip for a in endpoints.subsets[0].addresses] == ["192.0.2.7"]
        piece = await client.get(EndpointSlice, "kubernetes", "default")
        assert piece.endpoints[0].addresses == ("192.0.2.7",)
        assert (piece.ports[0].name, piece.ports[0].port) == ("https", 6443)
        assert await keeper(server).reconcile() == 0


async def test_it_follows_the_servers_address(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        client = server.client()
        await keeper(server).reconcile()
        assert await keeper(server, address="192.0.2.8").reconcile() == 2
        assert (await client.get(EndpointSlice, "kubernetes", "default")).endpoints[0].addresses == ("192.0.2.8",)
        assert await keeper(server, address="2001:db8::8").reconcile() == 2
        assert (await client.get(EndpointSlice, "kubernetes", "default")).addressType == "IPv6"


async def test_it_follows_the_service_range(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        client = server.client()
        await keeper(server).reconcile()
        assert await keeper(server, service_ip="10.43.0.2").reconcile() == 1
        assert (await client.get(Service, "kubernetes", "default")).spec.clusterIP == "10.43.0.2"
        assert {a.metadata.name for a in (await client.list(IPAddress)).items} == {"10.43.0.2"}


async def test_it_comes_back_when_somebody_deletes_it(tmp_path: Path) -> None:
    async with trusted_server(tmp_path) as server:
        client, health = server.client(), Health()
        task = asyncio.create_task(keeper(server).run(health), name="kubernetes service")
        try:
            await asyncio.wait_for(health.ready.wait(), 5)
            before = (await client.get(Service, "kubernetes", "default")).metadata.uid
            await client.delete(Service, "kubernetes", "default")
            await client.delete(EndpointSlice, "kubernetes", "default")
            await until(lambda: server.cache.of(EndpointSlice.resource).get("default", "kubernetes") is not None)
            assert (await client.get(Service, "kubernetes", "default")).metadata.uid != before
        finally:
            task.cancel()


def test_what_counts_as_wanted() -> None:
    assert is_as_wanted({"a": 1, "more": 2}, {"a": 1})
    assert not is_as_wanted({"a": [1, 2]}, {"a": [1]})
    assert not is_as_wanted({}, {"a": None})
