"""Resizing pods on a real node: the cgroups follow, conditions come and go, a restart of the agent forgets nothing."""

from __future__ import annotations

from typing import Any

import pytest

from minikube_py.client import Patch
from minikube_py.types.meta import Condition
from minikube_py.types.pod import Pod
from tests.kubelet.agent import Agent, status
from tests.support import cgroups

pytestmark = pytest.mark.cluster


def amounts(cpu: str, memory: str) -> dict[str, dict[str, str]]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


async def ask(node: Agent, name: str, resources: Any, container: str = "main") -> None:
    body = {"spec": {"containers": [{"name": container, "resources": resources}]}}
    await node.client.patch(Pod, name, body, "default", kind=Patch.STRATEGIC, subresource="resize")


def condition(pod: Pod, type_: str) -> Condition | None:
    return next((c for c in pod.status.conditions if c.type == type_), None)


def settled(pod: Pod) -> bool:
    told = {c.type for c in pod.status.conditions}
    return pod.status.observedGeneration == pod.metadata.generation and not told & {"PodResizePending", "PodResizeInProgress"}


async def limits(node: Agent, pod: Pod) -> str:
    return await node.exec(pod, "sh", "-c", cgroups.INSIDE)


async def test_a_running_container_is_given_more_and_less(node: Agent) -> None:
    await node.create("web", {"command": ["sleep", "1000"], "resources": amounts("100m", "64Mi")})
    before = await node.running("web")
    assert await limits(node, before) == cgroups.limits(64 << 20, 10000, 102)
    for cpu, memory, found in (("200m", "96Mi", (96 << 20, 20000, 204)), ("50m", "32Mi", (32 << 20, 5000, 51))):
        await ask(node, "web", amounts(cpu, memory))
        after = await node.wait("web", settled)
        shown = status(after)
        assert shown.resources is not None and dict(shown.resources.limits) == {"cpu": cpu, "memory": memory}
        assert dict(shown.allocatedResources) == {"cpu": cpu, "memory": memory}
        assert shown.restartCount == 0 and shown.containerID == status(before).containerID
        assert await limits(node, after) == cgroups.limits(*found)
        assert cgroups.of(f"{node.options.cgroup_root}/kubepods/pod{after.metadata.uid}") == cgroups.limits(*found)
    said = [reason for reason, _ in await node.events("web")]
    assert said.count("ResizeStarted") == 2 and said.count("ResizeCompleted") == 2
    await node.restart()
    again = await node.wait("web", settled)
    assert await limits(node, again) == cgroups.limits(32 << 20, 5000, 51) and status(again).restartCount == 0


async def test_a_policy_restarts_and_what_does_not_fit_waits(node: Agent) -> None:
    policy = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    sleep = {"command": ["sleep", "1000"]}
    await node.create("one", {**sleep, "resources": amounts("100m", "64Mi"), "resizePolicy": policy})
    await node.create("other", {**sleep, "resources": {"requests": {"cpu": "1500m"}}})
    await node.running("one")
    await node.running("other")
    await ask(node, "one", amounts("100m", "80Mi"))
    after = await node.wait("one", lambda pod: settled(pod) and status(pod).restartCount == 1 and status(pod).ready)
    assert await limits(node, after) == cgroups.limits(80 << 20, 10000, 102)
    # more than is free waits, also over a restart of the agent, until the other pod is gone
    await ask(node, "one", amounts("1", "80Mi"))
    held = await node.wait("one", lambda pod: condition(pod, "PodResizePending"))
    pending = condition(held, "PodResizePending")
    assert pending is not None and pending.reason == "Deferred" and pending.observedGeneration == held.metadata.generation
    assert pending.message.startswith("Node didn't have enough resource: cpu, requested: 1000, used: 1500")
    assert status(held).allocatedResources["cpu"] == "100m"
    await node.restart()
    await node.delete("other")
    after = await node.wait("one", lambda pod: settled(pod) and status(pod).allocatedResources.get("cpu") == "1")
    assert await limits(node, after) == cgroups.limits(80 << 20, 100000, 1024)


async def test_memory_is_not_taken_from_under_what_uses_it(node: Agent) -> None:
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null; sleep 1000"
    await node.create("full", {"command": ["sh", "-c", script], "resources": amounts("100m", "128Mi")})
    pod = await node.running("full")
    await node.exec(pod, "sh", "-c", "until [ -s /dev/shm/x ]; do sleep 0.05; done; sync")
    await ask(node, "full", amounts("100m", "8Mi"))
    held = await node.wait("full", lambda p: (c := condition(p, "PodResizeInProgress")) is not None and c.reason == "Error")
    found = condition(held, "PodResizeInProgress")
    assert found is not None and "below current usage" in found.message
    assert status(held).resources is not None and status(held).resources.limits["memory"] == "128Mi"  # type: ignore[union-attr]
    await ask(node, "full", amounts("100m", "128Mi"))
    assert status(await node.wait("full", settled)).restartCount == 0


async def test_a_pod_that_the_node_cannot_take_fails(node: Agent) -> None:
    await node.create("huge", {"command": ["sleep", "1000"], "resources": {"requests": {"cpu": "900"}}})
    failed = await node.wait("huge", lambda pod: pod.status.phase == "Failed")
    assert failed.status.reason == "OutOfcpu"
    assert failed.status.message.startswith("Pod was rejected: Node didn't have enough resource: cpu, requested: 900000, used: 0")
    assert not failed.status.containerStatuses
    await node.delete("huge")
    await node.gone("huge")
