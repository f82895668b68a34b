"""Claims and volumes on the real API server: what a user sees of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minikube_py.client import Patch
from minikube_py.types.core import Event, PersistentVolumeClaim, ServiceAccount
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume, StorageClass
from tests.controllers.harness import Plane, control_plane
from tests.support.waiting import until

CONTROLLERS = (
    "persistentvolume",
    "pvc-protection",
    "pv-protection",
    "ephemeral-volume",
    "local-path",
    "serviceaccount",
    "garbage-collector",
    "node-lifecycle",
)


async def volume(plane: Plane, name: str, size: str = "1Gi", policy: str = "Retain", **spec: Any) -> PersistentVolume:
    whole = {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": f"/srv/{name}"}, **spec}
    return await plane.create(
        PersistentVolume, {"metadata": {"name": name}, "spec": {**whole, "persistentVolumeReclaimPolicy": policy}}, None
    )


async def claim(plane: Plane, name: str, size: str = "1Gi", **spec: Any) -> PersistentVolumeClaim:
    whole = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, "storageClassName": "", **spec}
    return await plane.create(
        PersistentVolumeClaim, {"metadata": {"name": name}, "spec": {k: v for k, v in whole.items() if v is not None}}
    )


async def pod(plane: Plane, name: str, **source: Any) -> Pod:
    spec = {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "data", **source}]}
    return await plane.create(Pod, {"metadata": {"name": name}, "spec": spec})


def bound(obj: Any) -> bool:
    return bool(obj.status.phase == "Bound")


async def test_claims_and_volumes_find_each_other_and_part(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.node()
        await plane.eventually(ServiceAccount, "default", bool)
        for name, size in {"large": "9Gi", "small": "2Gi"}.items():
            await volume(plane, name, size, **({"persistentVolumeReclaimPolicy": "Retain"}))
        await claim(plane, "first")
        made = await plane.eventually(PersistentVolumeClaim, "first", bound)
        assert (
            made.spec.volumeName == "small" and made.status.capacity == {"storage": "2Gi"} and made.status.accessModes == ("ReadWriteOnce",)
        )
        of = await plane.eventually(PersistentVolume, "small", bound, None)
        assert of.spec.claimRef is not None and of.spec.claimRef.uid == made.metadata.uid
        assert "pv.kubernetes.io/bound-by-controller" in of.metadata.annotations
        assert "pv.kubernetes.io/bind-completed" in made.metadata.annotations
        # one that comes before its volume
        await claim(plane, "early", "20Gi")
        await plane.eventually(PersistentVolumeClaim, "early", lambda c: c.status.phase == "Pending")
        await volume(plane, "late", "20Gi", policy="Delete")
        await plane.eventually(PersistentVolumeClaim, "early", bound)
        # what is in use stays
        await pod(plane, "user", persistentVolumeClaim={"claimName": "first"})
        await plane.client.delete(PersistentVolume, "small")
        await plane.client.delete(PersistentVolumeClaim, "first", "default")
        going = await plane.eventually(PersistentVolumeClaim, "first", lambda c: c.metadata.deletionTimestamp)
        assert "kubernetes.io/pvc-protection" in going.metadata.finalizers
        assert (await plane.get(PersistentVolume, "small", None)).status.phase == "Bound"
        await plane.client.delete(Pod, "user", "default", grace_seconds=0)
        await plane.gone(PersistentVolumeClaim, "first")
        await plane.gone(PersistentVolume, "small", None)
        # what is retained is for whoever is told to have it
        await claim(plane, "second", "5Gi")
        await plane.eventually(PersistentVolumeClaim, "second", bound)
        await plane.client.delete(PersistentVolumeClaim, "second", "default")
        await plane.eventually(PersistentVolume, "large", lambda v: v.status.phase == "Released", None)
        await plane.client.patch(PersistentVolume, "large", {"spec": {"claimRef": None}})
        await plane.eventually(PersistentVolume, "large", lambda v: v.status.phase == "Available", None)
        # data that nobody here made is not deleted by anybody here
        await plane.client.delete(PersistentVolumeClaim, "early", "default")
        await plane.eventually(PersistentVolume, "late", lambda v: v.status.phase == "Failed", None)
        await said(plane, "late", "VolumeFailedDelete")


async def said(plane: Plane, name: str, reason: str) -> None:
    async def look() -> bool:
        return any(e.involvedObject.name == name and e.reason == reason for e in await plane.list(Event))

    await until(look)


async def test_reserved_volumes_and_default_classes(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=CONTROLLERS) as plane:
        await plane.node()
        await plane.eventually(ServiceAccount, "default", bool)
        # reserved from the volume's side, and from the claim's
        await volume(plane, "mine", "50Gi", claimRef={"namespace": "default", "name": "prebound"})
        await volume(plane, "other", "1Gi")
        await claim(plane, "prebound")
        assert (await plane.eventually(PersistentVolumeClaim, "prebound", bound)).spec.volumeName == "mine"
        await claim(plane, "wrong", "2Gi", volumeName="other")
        await said(plane, "wrong", "VolumeMismatch")
        await claim(plane, "chosen", volumeName="other")
        await plane.eventually(PersistentVolumeClaim, "chosen", bound)
        # the built-in class is there, the default, and waits for a pod
        built_in = await plane.eventually(StorageClass, "local-path", bool, None)
        assert built_in.volumeBindingMode == "WaitForFirstConsumer"
        made = await claim(plane, "plain", storageClassName=None)
        assert made.spec.storageClassName == "local-path" and made.metadata.finalizers == ("kubernetes.io/pvc-protection",)
        await said(plane, "plain", "WaitForFirstConsumer")
        # a class that becomes the default later counts for claims that named none
        off = {"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "false"}}}
        await plane.client.patch(StorageClass, "local-path", off, kind=Patch.MERGE)
        assert (await claim(plane, "waits", storageClassName=None)).spec.storageClassName is None
        on = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}, "name": "fast"}
        await plane.create(StorageClass, {"metadata": on, "provisioner": "example.com/fast"}, None)
        found = await plane.eventually(
            PersistentVolumeClaim, "waits", lambda c: "volume.kubernetes.io/storage-provisioner" in c.metadata.annotations
        )
        assert found.spec.storageClassName == "fast"
        assert found.metadata.annotations["volume.kubernetes.io/storage-provisioner"] == "example.com/fast"
        # an ephemeral volume has a claim of the pod's own
        template = {
            "metadata": {"labels": {"a": "b"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        owner = await pod(plane, "short", ephemeral={"volumeClaimTemplate": template})
        own = await plane.eventually(PersistentVolumeClaim, "short-data", bool)
        assert own.metadata.labels == {"a": "b"} and own.metadata.ownerReferences[0].uid == owner.metadata.uid
        await plane.client.delete(Pod, "short", "default", grace_seconds=0)
        await plane.gone(PersistentVolumeClaim, "short-data")
