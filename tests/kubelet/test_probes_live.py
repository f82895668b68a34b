"""Probes of real containers, and what comes of them."""

from __future__ import annotations

import pytest

from tests.kubelet.agent import Agent, status
from tests.support.images import WEB
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

FAST = {"periodSeconds": 1, "failureThreshold": 1}


async def test_a_failed_liveness_probe_restarts_the_container(node: Agent) -> None:
    probe = {"exec": {"command": ["cat", "/tmp/alive"]}, **FAST}
    await node.create("web", {"command": ["sh", "-c", "touch /tmp/alive; exec sleep 1000"], "livenessProbe": probe, "image": WEB})
    pod = await node.running("web")
    await node.exec(pod, "rm", "/tmp/alive")
    pod = await node.wait("web", lambda p: status(p).restartCount == 1 and status(p).state.running)
    events = await node.events("web")
    assert ("Killing", "Container main failed liveness probe, will be restarted") in events
    assert any(r == "Unhealthy" and m.startswith("Liveness probe failed: ") and "No such file" in m for r, m in events)


async def test_readiness_makes_the_pod_ready_and_unready(node: Agent) -> None:
    probe = {"httpGet": {"path": "/", "port": "http"}, **FAST}
    await node.create("web", {"image": WEB, "ports": [{"name": "http", "containerPort": 8080}], "readinessProbe": probe})
    pod = await node.running("web")
    await node.exec(pod, "rm", "/tmp/www/index.html")
    pod = await node.wait("web", lambda p: not status(p).ready)
    ready = next(c for c in pod.status.conditions if c.type == "Ready")
    assert (ready.status, ready.reason, ready.message) == ("False", "ContainersNotReady", "containers with unready status: [main]")
    assert ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404") in await node.events("web")
    await node.exec(pod, "sh", "-c", "echo back > /tmp/www/index.html")
    pod = await node.running("web")
    assert status(pod).restartCount == 0


async def test_a_startup_probe_holds_the_others_back(node: Agent) -> None:
    probes = {
        "startupProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30},
        "livenessProbe": {"exec": {"command": ["test", "-f", "/tmp/up"]}, **FAST},
    }
    script = "sleep 2.5; touch /tmp/up; mkdir -p /tmp/www; exec httpd -f -p 8080 -h /tmp/www"
    await node.create("web", {"command": ["sh", "-c", script], **probes})
    pod = await node.wait("web", lambda p: p.status.containerStatuses and p.status.containerStatuses[0].state.running)
    assert status(pod).started is False and not status(pod).ready
    pod = await node.running("web")
    assert status(pod).started is True and status(pod).restartCount == 0


async def test_a_refused_connection_is_said_in_the_words_of_the_network(node: Agent) -> None:
    await node.create("web", {"command": ["sleep", "1000"], "readinessProbe": {"tcpSocket": {"port": 81}, **FAST}})
    pod = await node.wait("web", lambda p: p.status.podIP)

    async def said() -> bool:
        message = f"Readiness probe failed: dial tcp {pod.status.podIP}:81: connect: connection refused"
        return ("Unhealthy", message) in await node.events("web")

    await until(said)
