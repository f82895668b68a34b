"""Deployments and ReplicaSets on the real API server: what a user sees of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from minikube_py.client import Patch
from minikube_py.types.core import Event, ServiceAccount
from minikube_py.types.meta import controller_of
from minikube_py.types.pod import Pod
from minikube_py.types.workload import Deployment, ReplicaSet
from tests.controllers.harness import control_plane
from tests.support.waiting import until

LABELS = {"app": "web"}
WORKLOADS = ("deployment", "replicaset", "serviceaccount", "node-lifecycle")


def template(image: str = "web:1") -> dict[str, Any]:
    return {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "web", "image": image}]}}


def deployment(replicas: int = 3, image: str = "web:1", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template(image), **spec},
    }


def complete(made: Deployment) -> bool:
    status, wanted = made.status, made.spec.replicas
    return (
        status.observedGeneration == made.metadata.generation
        and status.updatedReplicas == status.replicas == status.availableReplicas == wanted
    )


async def test_a_deployment_comes_up_rolls_over_and_goes_back(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WORKLOADS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(Deployment, deployment())
        made = await plane.eventually(Deployment, "web", complete)
        assert made.metadata.annotations["deployment.kubernetes.io/revision"] == "1"
        (first,) = await plane.list(ReplicaSet)
        pods = await plane.list(Pod)
        assert {controller_of(p.metadata).uid for p in pods} == {first.metadata.uid}  # type: ignore[union-attr]
        assert all(p.metadata.name.startswith(f"{first.metadata.name}-") and p.spec.nodeName == "n1" for p in pods)

        await plane.client.patch(
            Deployment,
            "web",
            {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}},
            "default",
            kind=Patch.STRATEGIC,
        )
        made = await plane.eventually(Deployment, "web", complete)
        assert made.metadata.annotations["deployment.kubernetes.io/revision"] == "2"
        await plane.count(Pod, 3, lambda p: p.spec.containers[0].image == "web:2")
        assert {s.spec.replicas for s in await plane.list(ReplicaSet)} == {0, 3}

        await plane.client.patch(
            Deployment,
            "web",
            {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}}},
            "default",
            kind=Patch.STRATEGIC,
        )
        await plane.eventually(Deployment, "web", complete)
        again = await plane.get(ReplicaSet, first.metadata.name)
        assert again.spec.replicas == 3 and again.metadata.annotations["deployment.kubernetes.io/revision"] == "3"
        assert len(await plane.list(ReplicaSet)) == 2
        await until(lambda: plane.list(Event))
        messages = {e.message for e in await plane.list(Event) if e.reason == "ScalingReplicaSet"}
        assert f"Scaled up replica set {first.metadata.name} from 0 to 3" in messages


async def test_scaling_up_and_down(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WORKLOADS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(Deployment, deployment(2))
        await plane.eventually(Deployment, "web", complete)
        for size in (7, 1, 0):
            await plane.client.patch(Deployment, "web", {"spec": {"replicas": size}}, "default")
            await plane.eventually(Deployment, "web", complete)
            await plane.count(Pod, size)


async def test_a_broken_image_keeps_the_old_pods(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WORKLOADS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(Deployment, deployment(4, progressDeadlineSeconds=1))
        await plane.eventually(Deployment, "web", complete)
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "broken"}]}}}}
        await plane.client.patch(Deployment, "web", patch, "default", kind=Patch.STRATEGIC)

        def stuck(made: Deployment) -> bool:
            late = any(c.type == "Progressing" and c.reason == "ProgressDeadlineExceeded" for c in made.status.conditions)
            return late and made.status.availableReplicas == 3 and made.status.unavailableReplicas == 2

        await plane.eventually(Deployment, "web", stuck)


async def test_many_pods_are_made_once_each(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("replicaset", "serviceaccount")) as plane:
        spec = {"replicas": 700, "selector": {"matchLabels": LABELS}, "template": template()}
        await plane.create(ReplicaSet, {"metadata": {"name": "web"}, "spec": spec})
        made = await plane.eventually(ReplicaSet, "web", lambda s: s.status.replicas == 700)
        assert made.status.observedGeneration == 1
        assert len(await plane.list(Pod)) == 700


async def test_orphans_are_adopted_and_strays_released(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("replicaset", "serviceaccount")) as plane:
        await plane.create(Pod, {"metadata": {"name": "orphan", "labels": LABELS}, "spec": template()["spec"]})
        spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template()}
        made = await plane.create(ReplicaSet, {"metadata": {"name": "web"}, "spec": spec})
        adopted = await plane.eventually(Pod, "orphan", lambda p: controller_of(p.metadata))
        assert controller_of(adopted.metadata).uid == made.metadata.uid  # type: ignore[union-attr]
        await plane.count(Pod, 2)
        await plane.client.patch(Pod, "orphan", {"metadata": {"labels": {"app": "other"}}}, "default")
        await plane.eventually(Pod, "orphan", lambda p: not p.metadata.ownerReferences)
        await plane.count(Pod, 3)


async def test_a_pod_that_cannot_be_made_is_said_in_the_status(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("replicaset",)) as plane:
        # no controller makes the service account "default", so admission refuses the pods
        spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template()}
        await plane.create(ReplicaSet, {"metadata": {"name": "web"}, "spec": spec})
        made = await plane.eventually(ReplicaSet, "web", lambda s: s.status.conditions)
        (condition,) = made.status.conditions
        assert (condition.type, condition.reason) == ("ReplicaFailure", "FailedCreate")
        assert 'error looking up service account default/default: serviceaccount "default" not found' in condition.message
        await plane.create(ServiceAccount, {"metadata": {"name": "default"}})
        await plane.eventually(ReplicaSet, "web", lambda s: s.status.replicas == 2 and not s.status.conditions)


async def test_recreate_never_runs_both(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=WORKLOADS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(Deployment, deployment(2, strategy={"type": "Recreate"}))
        await plane.eventually(Deployment, "web", complete)
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}}
        revision = (await plane.client.list(Pod, "default")).resource_version
        await plane.client.patch(Deployment, "web", patch, "default", kind=Patch.STRATEGIC)
        await plane.eventually(Deployment, "web", complete)
        seen: set[str] = set()
        async for event in plane.client.watch(Pod, "default", resource_version=revision, timeout=1):
            if event.type == "BOOKMARK":
                continue
            image = event.object.spec.containers[0].image
            if event.type == "DELETED" and image == "web:1":
                seen.add(event.object.metadata.name)
            if event.type == "ADDED" and image == "web:2":
                assert len(seen) == 2, "a new pod came before the last old one had gone"


async def test_a_restart_of_the_control_plane_changes_nothing(tmp_path: Path) -> None:
    async with control_plane(tmp_path, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(Deployment, deployment(3))
        await plane.eventually(Deployment, "web", complete)
        before = {(p.metadata.name, p.metadata.uid, p.spec.nodeName) for p in await plane.list(Pod)}
        sets = {(s.metadata.name, s.metadata.generation) for s in await plane.list(ReplicaSet)}
    async with control_plane(tmp_path, scheduler=True) as plane:
        await asyncio.sleep(0.5)
        assert {(p.metadata.name, p.metadata.uid, p.spec.nodeName) for p in await plane.list(Pod)} == before
        assert {(s.metadata.name, s.metadata.generation) for s in await plane.list(ReplicaSet)} == sets
        await plane.client.patch(Deployment, "web", {"spec": {"replicas": 4}}, "default")
        await plane.count(Pod, 4, lambda p: p.spec.nodeName)


async def test_an_idle_cluster_is_not_written_to(tmp_path: Path) -> None:
    async with control_plane(tmp_path, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(Deployment, deployment(3))
        await plane.eventually(Deployment, "web", complete)
        await asyncio.sleep(1.0)
        revision = (await plane.client.list(Pod)).resource_version
        await asyncio.sleep(1.0)
        assert (await plane.client.list(Pod)).resource_version == revision
