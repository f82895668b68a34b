"""DefaultStorageClass: a claim that names no class gets the cluster's default one; of several the newest."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.types.storage import BETA_CLASS, StorageClass, default_class


class DefaultStorageClass(Plugin):
    name = "DefaultStorageClass"
    resources = frozenset({("", "persistentvolumeclaims")})

    def __init__(self, cache: Cache) -> None:
        self._classes = cache.of(StorageClass.resource)

    async def admit(self, request: AdmissionRequest) -> None:
        if request.operation is not Operation.CREATE or request.subresource or request.object is None:
            return
        spec = request.object.setdefault("spec", {})
        annotations = (request.object.get("metadata") or {}).get("annotations") or {}
        if spec.get("storageClassName") is not None or BETA_CLASS in annotations:
            return
        if (found := default_class(entry.view(StorageClass) for entry in self._classes.entries())) is not None:
            spec["storageClassName"] = found.metadata.name
