"""DaemonSets on the real API server: what a user sees of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from minikube_py.client import Patch
from minikube_py.types.core import Node
from minikube_py.types.pod import Pod
from minikube_py.types.workload import ControllerRevision, DaemonSet
from tests.controllers.harness import Plane, control_plane

LABELS = {"app": "agent"}
CONTROLLERS = ("daemonset", "serviceaccount", "node-lifecycle")


def body(image: str = "agent:1", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "agent", "image": image}], **spec.pop("pod", {})}}
    return {"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": LABELS}, "template": template, **spec}}


def complete(made: DaemonSet) -> bool:
    status, wanted = made.status, made.status.desiredNumberScheduled
    return (
        status.observedGeneration == made.metadata.generation
        and wanted == status.currentNumberScheduled == status.updatedNumberScheduled == status.numberAvailable
    )


async def images(plane: Plane) -> list[str]:
    return sorted(p.spec.containers[0].image for p in await plane.list(Pod) if p.metadata.deletionTimestamp is None)


async def use(plane: Plane, image: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "agent", "image": image}]}}}}
    await plane.client.patch(DaemonSet, "agent", patch, "default", kind=Patch.STRATEGIC)


async def test_every_node_that_fits_gets_one_and_loses_it(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        await plane.node("n1")
        await plane.node("n2")
        await plane.create(DaemonSet, body(pod={"nodeSelector": {"color": "blue"}}))
        await plane.eventually(DaemonSet, "agent", lambda d: d.status.observedGeneration == 1)
        assert not await plane.list(Pod)
        for name in ("n1", "n2"):
            await plane.client.patch(Node, name, {"metadata": {"labels": {"color": "blue"}}})
        pods = await plane.count(Pod, 2, lambda p: p.spec.nodeName)
        assert {p.spec.nodeName for p in pods} == {"n1", "n2"}
        assert all(p.metadata.name.startswith("agent-") for p in pods)
        made = await plane.eventually(DaemonSet, "agent", lambda d: d.status.numberAvailable == 2)
        assert complete(made) and made.status.numberUnavailable == 0
        await plane.client.patch(Node, "n1", {"metadata": {"labels": {"color": "green"}}})
        (left,) = await plane.count(Pod, 1)
        assert left.spec.nodeName == "n2"
        await plane.client.delete(Pod, left.metadata.name, "default")
        await plane.count(Pod, 1, lambda p: p.metadata.uid != left.metadata.uid and p.spec.nodeName == "n2")
        await plane.client.patch(Node, "n2", {"spec": {"unschedulable": True}})
        await asyncio.sleep(0.3)
        await plane.count(Pod, 1, lambda p: p.spec.nodeName == "n2")


async def test_a_rolling_update_and_its_undoing(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        for name in ("n1", "n2", "n3"):
            await plane.node(name)
        await plane.create(DaemonSet, body())
        await plane.eventually(DaemonSet, "agent", lambda d: complete(d) and d.status.numberAvailable == 3)
        before = {p.metadata.uid for p in await plane.list(Pod)}
        await use(plane, "broken")
        # one node is given up to the update that does not come up, no further one
        await plane.count(Pod, 1, lambda p: p.spec.containers[0].image == "broken")
        await asyncio.sleep(0.5)
        assert await images(plane) == ["agent:1", "agent:1", "broken"]
        assert {r.revision for r in await plane.list(ControllerRevision)} == {1, 2}
        await use(plane, "agent:1")
        await plane.eventually(DaemonSet, "agent", lambda d: complete(d) and d.status.numberAvailable == 3)
        after = {p.metadata.uid for p in await plane.list(Pod)}
        assert len(before & after) == 2, "pods of the right template were restarted"
        assert {r.revision for r in await plane.list(ControllerRevision)} == {2, 3}
        await use(plane, "agent:2")
        await plane.eventually(DaemonSet, "agent", complete)
        await plane.count(Pod, 3, lambda p: p.spec.containers[0].image == "agent:2")


async def test_surge_keeps_the_old_one_until_the_new_one_is_there(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        await plane.create(DaemonSet, body(updateStrategy=strategy))
        await plane.eventually(DaemonSet, "agent", lambda d: complete(d) and d.status.numberAvailable == 1)
        await use(plane, "broken")
        await plane.count(Pod, 2, lambda p: p.spec.nodeName)
        await asyncio.sleep(0.3)
        assert await images(plane) == ["agent:1", "broken"]
        await use(plane, "agent:2")
        await plane.count(Pod, 1, lambda p: p.spec.containers[0].image == "agent:2")
        await plane.count(Pod, 1)


async def test_on_delete_waits_for_the_user(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(DaemonSet, body(updateStrategy={"type": "OnDelete"}))
        await plane.eventually(DaemonSet, "agent", lambda d: complete(d) and d.status.numberAvailable == 1)
        await use(plane, "agent:2")
        await plane.eventually(DaemonSet, "agent", lambda d: d.status.observedGeneration == 2 and d.status.updatedNumberScheduled == 0)
        assert await images(plane) == ["agent:1"]
        (old,) = await plane.list(Pod)
        await plane.client.delete(Pod, old.metadata.name, "default")
        await plane.count(Pod, 1, lambda p: p.spec.containers[0].image == "agent:2")


async def test_a_failed_daemon_is_replaced(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(DaemonSet, body())
        await plane.eventually(DaemonSet, "agent", lambda d: complete(d) and d.status.numberAvailable == 1)
        (first,) = await plane.list(Pod)
        await plane.client.patch(Pod, first.metadata.name, {"status": {"phase": "Failed"}}, "default", subresource="status")
        await plane.count(Pod, 1, lambda p: p.metadata.uid != first.metadata.uid and p.status.phase == "Running")


async def test_history_is_limited(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(DaemonSet, body(revisionHistoryLimit=1))
        for n in range(1, 5):
            await use(plane, f"agent:{n}")
            await plane.count(Pod, 1, lambda p, n=n: p.spec.containers[0].image == f"agent:{n}")  # type: ignore[misc]
        await plane.count(ControllerRevision, 2)
        await plane.eventually(DaemonSet, "agent", complete)
