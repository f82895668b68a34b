"""What load balancers and monitors are answered."""

from __future__ import annotations

import asyncio
import json
import socket

import aiohttp
import msgspec

from minikube_py.proxy.checks import HealthListeners
from minikube_py.proxy.health import LATE_SECONDS, ProxyHealth, check_answer, eligible, proxy_answer
from minikube_py.proxy.model import HealthCheck
from minikube_py.types.core import Node


class Clock:
    now = 1_700_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def node(**spec: object) -> Node:
    return msgspec.convert({"metadata": {"name": "a"}, "spec": spec}, Node)


LEAVING = node(taints=[{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}])


def test_a_check_says_how_many_are_here() -> None:
    status, headers, body = check_answer("d/web", 2, True)
    assert (status, headers["X-Load-Balancing-Endpoint-Weight"], headers["Content-Type"]) == (200, "2", "application/json")
    assert json.loads(body) == {"service": {"namespace": "d", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": True}
    assert check_answer("d/web", 0, True)[0] == 503
    assert check_answer("d/web", 2, False)[0] == 503


def test_a_proxy_that_does_not_keep_up_or_a_node_that_leaves_is_told() -> None:
    clock = Clock()
    health = ProxyHealth(clock, ipv6=False)
    health.queued()
    health.updated()
    status, _, body = proxy_answer("/healthz", health, node())
    assert status == 200
    assert json.loads(body)["nodeEligible"] is True
    assert json.loads(body)["status"]["IPv4"] == {"lastUpdated": "2023-11-14T22:13:20Z", "healthy": True}
    assert (proxy_answer("/healthz", health, LEAVING)[0], proxy_answer("/livez", health, LEAVING)[0]) == (503, 200)
    health.queued()
    clock.now += LATE_SECONDS
    health.queued()
    status, _, body = proxy_answer("/livez", health, node())
    assert (status, json.loads(body)["healthy"], json.loads(body)["lastUpdated"]) == (503, False, "2023-11-14T22:13:20Z")
    health.updated()
    assert proxy_answer("/livez", health, node())[0] == 200
    assert proxy_answer("/", health, node())[0] == 404
    assert not eligible(None)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_listeners_follow_what_services_ask_for() -> None:
    own, status, first, second = free_port(), free_port(), free_port(), free_port()
    listeners = HealthListeners(ProxyHealth(Clock(), ipv6=False), node, ipv6=False, port=own, status=status)
    running = asyncio.create_task(listeners.run())

    async def ask(port: int, path: str = "/") -> int:
        for _ in range(100):
            try:
                async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                    return answer.status
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.01)
        return 0

    try:
        async with aiohttp.ClientSession() as session:
            assert await ask(own, "/healthz") == 200
            assert [await ask(status, path) for path in ("/healthz", "/proxyMode", "/")] == [200, 200, 404]
            async with session.get(f"http://127.0.0.1:{status}/proxyMode") as answer:
                assert await answer.text() == "iptables"
            listeners.put("d/web", HealthCheck(first, 1))
            assert await ask(first) == 200
            listeners.put("d/web", HealthCheck(second, 0))
            assert await ask(second) == 503
            listeners.put("d/web", None)
            for port in (first, second):
                await asyncio.sleep(0.05)
                assert not reaches(port)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert not reaches(own) and not reaches(status)


def reaches(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
