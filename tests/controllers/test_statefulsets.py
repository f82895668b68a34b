"""StatefulSets on the real API server: what a user sees of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from minikube_py.client import Patch
from minikube_py.types.core import Event, PersistentVolumeClaim
from minikube_py.types.pod import Pod
from minikube_py.types.workload import ControllerRevision, StatefulSet
from tests.controllers.harness import Plane, control_plane

LABELS = {"app": "db"}
CONTROLLERS = ("statefulset", "serviceaccount", "node-lifecycle")


def body(replicas: int = 3, image: str = "db:1", **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "db", "image": image}]}}
    wanted = {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": LABELS}, "template": template}
    return {"metadata": {"name": "db"}, "spec": {**wanted, **spec}}


def complete(made: StatefulSet) -> bool:
    status, wanted = made.status, made.spec.replicas
    counts = {status.replicas, status.readyReplicas, status.availableReplicas, status.updatedReplicas, status.currentReplicas}
    return (
        status.observedGeneration == made.metadata.generation
        and counts == {wanted}
        and status.currentRevision == status.updateRevision != ""
    )


async def use(plane: Plane, image: str) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "db", "image": image}]}}}}
    await plane.client.patch(StatefulSet, "db", patch, "default", kind=Patch.STRATEGIC)


async def running(plane: Plane) -> dict[str, str]:
    return {p.metadata.name: p.spec.containers[0].image for p in await plane.list(Pod) if p.metadata.deletionTimestamp is None}


async def test_pods_come_in_order_and_go_in_reverse(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True) as plane:
        await plane.node()
        await plane.create(StatefulSet, body(ordinals={"start": 3}))
        for n in (3, 4, 5):
            pod = await plane.eventually(Pod, f"db-{n}", lambda p: p.spec.nodeName)
            await asyncio.sleep(0.1)
            assert set(await running(plane)) == {f"db-{m}" for m in range(3, n + 1)}
            labels = pod.metadata.labels
            assert (labels["statefulset.kubernetes.io/pod-name"], labels["apps.kubernetes.io/pod-index"]) == (f"db-{n}", str(n))
            assert (pod.spec.hostname, pod.spec.subdomain) == (f"db-{n}", "db")
            await plane.run_pod(pod)
        made = await plane.eventually(StatefulSet, "db", complete)
        (revision,) = await plane.list(ControllerRevision)
        assert made.status.currentRevision == revision.metadata.name == labels["controller-revision-hash"]
        await plane.client.patch(StatefulSet, "db", {"spec": {"replicas": 1}}, "default")
        for n in (5, 4):
            ending = await plane.eventually(Pod, f"db-{n}", lambda p: p.metadata.deletionTimestamp)
            await asyncio.sleep(0.1)
            assert set(await running(plane)) == {f"db-{m}" for m in range(3, n)}
            await plane.end_pod(ending)
        await plane.eventually(StatefulSet, "db", complete)


async def test_a_parallel_set_does_not_wait(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.create(StatefulSet, body(4, podManagementPolicy="Parallel"))
        await plane.count(Pod, 4)
        await plane.client.patch(StatefulSet, "db", {"spec": {"replicas": 0}}, "default")
        await plane.count(Pod, 0)


async def test_an_unhealthy_pod_halts_scaling(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(StatefulSet, body(1))
        await plane.eventually(StatefulSet, "db", complete)
        pod = await plane.get(Pod, "db-0")
        await plane.run_pod(pod, pod.status.podIP, ready=False)
        await plane.eventually(StatefulSet, "db", lambda s: s.status.readyReplicas == 0)
        await plane.client.patch(StatefulSet, "db", {"spec": {"replicas": 3}}, "default")
        await plane.eventually(StatefulSet, "db", lambda s: s.status.observedGeneration == 2)
        await asyncio.sleep(0.2)
        assert set(await running(plane)) == {"db-0"}
        await plane.run_pod(pod, pod.status.podIP)
        await plane.eventually(StatefulSet, "db", complete)


async def test_updates_go_down_to_the_partition_and_back(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        rolling: dict[str, Any] = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
        await plane.create(StatefulSet, body(updateStrategy=rolling))
        first = (await plane.eventually(StatefulSet, "db", complete)).status.currentRevision
        await use(plane, "db:2")
        made = await plane.eventually(StatefulSet, "db", lambda s: s.status.updatedReplicas == 1 and s.status.readyReplicas == 3)
        assert await running(plane) == {"db-0": "db:1", "db-1": "db:1", "db-2": "db:2"}
        assert made.status.currentRevision == first != made.status.updateRevision and made.status.currentReplicas == 2
        # below the partition a pod comes back as it was, even now
        old = await plane.get(Pod, "db-0")
        await plane.client.delete(Pod, "db-0", "default")
        again = await plane.eventually(Pod, "db-0", lambda p: p.metadata.uid != old.metadata.uid and p.status.phase == "Running")
        assert again.spec.containers[0].image == "db:1"
        await plane.client.patch(StatefulSet, "db", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}, "default")
        made = await plane.eventually(StatefulSet, "db", complete)
        assert set((await running(plane)).values()) == {"db:2"} and made.status.currentRevision != first
        await use(plane, "db:1")
        made = await plane.eventually(StatefulSet, "db", lambda s: complete(s) and s.status.currentRevision == first)
        assert {r.revision for r in await plane.list(ControllerRevision)} == {2, 3}


async def test_on_delete_waits_for_the_user(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(StatefulSet, body(2, updateStrategy={"type": "OnDelete"}))
        await plane.eventually(StatefulSet, "db", lambda s: s.status.readyReplicas == 2)
        await use(plane, "db:2")
        await plane.eventually(StatefulSet, "db", lambda s: s.status.observedGeneration == 2)
        await plane.client.delete(Pod, "db-1", "default")
        await plane.eventually(Pod, "db-1", lambda p: p.spec.containers[0].image == "db:2")
        assert (await running(plane))["db-0"] == "db:1"


async def test_a_failed_pod_is_made_anew(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS, scheduler=True, kubelet=True) as plane:
        await plane.node()
        await plane.create(StatefulSet, body(1))
        await plane.eventually(StatefulSet, "db", complete)
        first = await plane.get(Pod, "db-0")
        await plane.client.patch(Pod, "db-0", {"status": {"phase": "Failed", "reason": "Evicted"}}, "default", subresource="status")
        await plane.eventually(Pod, "db-0", lambda p: p.metadata.uid != first.metadata.uid and p.status.phase == "Running")
        await plane.eventually(StatefulSet, "db", complete)


async def test_claims_are_made_and_kept_or_handed_over(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=(*CONTROLLERS, "garbage-collector", "pvc-protection")) as plane:
        claim = {
            "metadata": {"name": "data", "labels": {"tier": "fast"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
        spec = body(2, podManagementPolicy="Parallel", volumeClaimTemplates=[claim], persistentVolumeClaimRetentionPolicy=policy)
        await plane.create(StatefulSet, spec)
        claims = await plane.count(PersistentVolumeClaim, 2)
        assert {c.metadata.name for c in claims} == {"data-db-0", "data-db-1"}
        assert all(c.metadata.labels == {"tier": "fast", **LABELS} and not c.metadata.ownerReferences for c in claims)
        (pod, _) = await plane.count(Pod, 2)
        assert pod.spec.volumes[0].persistentVolumeClaim is not None
        assert pod.spec.volumes[0].persistentVolumeClaim.claimName == f"data-{pod.metadata.name}"
        await plane.client.patch(StatefulSet, "db", {"spec": {"replicas": 1}}, "default")
        await plane.gone(Pod, "db-1")
        await plane.gone(PersistentVolumeClaim, "data-db-1")
        assert await plane.exists(PersistentVolumeClaim, "data-db-0")


async def test_a_claim_that_somebody_else_controls_is_told_of(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        claim = {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c", "controller": True}
        meta = {"name": "data-db-0", "ownerReferences": [other]}
        await plane.create(PersistentVolumeClaim, {**claim, "metadata": meta})
        policy = {"whenDeleted": "Delete", "whenScaled": "Retain"}
        await plane.create(StatefulSet, body(1, volumeClaimTemplates=[claim], persistentVolumeClaimRetentionPolicy=policy))
        (said,) = await plane.count(Event, 1, lambda e: e.reason == "ConflictingController")
        assert said.type == "Warning" and said.message.startswith("PersistentVolumeClaim data-db-0 has a conflicting OwnerReference")
        kept = await plane.get(PersistentVolumeClaim, "data-db-0")
        assert [ref.uid for ref in kept.metadata.ownerReferences] == ["c"]
