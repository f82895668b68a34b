"""Volumes for tests of the kubelet: persistent ones with claims on them, and how pods and containers name them."""

from __future__ import annotations

from typing import Any

from minikube_py.client import Client
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.storage import PersistentVolume


def mounts(**paths: str) -> dict[str, Any]:
    """A container's mounts: where it has each volume."""
    return {"volumeMounts": [{"name": name, "mountPath": path} for name, path in paths.items()]}


async def claimed(client: Client, name: str, **source: Any) -> None:
    """A persistent volume and a claim on it, bound as the binder would bind them."""
    size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
    mode = {"volumeMode": source.get("volumeMode", "Filesystem")}
    spec = {**mode, "accessModes": modes, "resources": {"requests": size}, "volumeName": name, "storageClassName": ""}
    claim = await client.create(PersistentVolumeClaim, {"metadata": {"name": name}, "spec": spec}, "default")
    reference = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": name, "uid": claim.metadata.uid}
    await client.create(
        PersistentVolume, {"metadata": {"name": name}, "spec": {"capacity": size, "accessModes": modes, "claimRef": reference, **source}}
    )
    await client.patch(PersistentVolumeClaim, name, {"status": {"phase": "Bound"}}, "default", subresource="status")


def on(hostname: str) -> dict[str, Any]:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]}
    return {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}


def claim(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": name, **more}}
