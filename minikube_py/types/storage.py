"""Storage: persistent volumes and the classes that provision them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from minikube_py.types.meta import Object, ObjectReference, ResourceRef, View
from minikube_py.types.pod import HostPathSource, NodeSelector, Quantities

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_BETA_DEFAULT_CLASS = "storageclass.beta.kubernetes.io/is-default-class"


class VolumeNodeAffinity(View, frozen=True):
    required: NodeSelector | None = None


class LocalSource(View, frozen=True):
    path: str
    fsType: str = ""


class PersistentVolumeSpec(View, frozen=True):
    capacity: Quantities = {}
    accessModes: tuple[str, ...] = ()
    claimRef: ObjectReference | None = None
    storageClassName: str = ""
    volumeMode: str = "Filesystem"
    nodeAffinity: VolumeNodeAffinity | None = None
    persistentVolumeReclaimPolicy: str = "Retain"
    volumeAttributesClassName: str | None = None
    mountOptions: tuple[str, ...] = ()
    hostPath: HostPathSource | None = None
    local: LocalSource | None = None


class PersistentVolumeStatus(View, frozen=True):
    phase: str = ""
    message: str = ""
    reason: str = ""


class PersistentVolume(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
    spec: PersistentVolumeSpec = PersistentVolumeSpec()
    status: PersistentVolumeStatus = PersistentVolumeStatus()


class TopologySelectorLabelRequirement(View, frozen=True):
    key: str
    values: tuple[str, ...] = ()


class TopologySelectorTerm(View, frozen=True):
    matchLabelExpressions: tuple[TopologySelectorLabelRequirement, ...] = ()


class StorageClass(Object, frozen=True):
    resource: ClassVar[ResourceRef] = ResourceRef("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
    provisioner: str = ""
    parameters: Mapping[str, str] = {}
    reclaimPolicy: str = "Delete"
    allowVolumeExpansion: bool = False
    mountOptions: tuple[str, ...] = ()
    volumeBindingMode: str = "Immediate"
    allowedTopologies: tuple[TopologySelectorTerm, ...] = ()


def default_class(classes: Iterable[StorageClass]) -> StorageClass | None:
    """The class of claims that name none: of several defaults the newest, of those the first by name."""
    found = [c for c in classes if any(c.metadata.annotations.get(key) == "true" for key in (DEFAULT_CLASS, _BETA_DEFAULT_CLASS))]
    found.sort(key=lambda c: c.metadata.name)
    return max(found, key=lambda c: c.metadata.creationTimestamp or "", default=None)
