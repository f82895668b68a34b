"""StorageObjectInUseProtection: volumes and claims are born with the finalizer that holds them while they are in use."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin
from minikube_py.apiserver.api import AdmissionRequest, Operation

_FINALIZERS = {
    ("", "persistentvolumes"): "kubernetes.io/pv-protection",
    ("", "persistentvolumeclaims"): "kubernetes.io/pvc-protection",
}


class StorageObjectInUseProtection(Plugin):
    name = "StorageObjectInUseProtection"
    resources = frozenset(_FINALIZERS)

    async def admit(self, request: AdmissionRequest) -> None:
        if request.operation is not Operation.CREATE or request.subresource or request.object is None:
            return
        ref = request.resource.ref
        finalizers = request.object.setdefault("metadata", {}).setdefault("finalizers", [])
        if (name := _FINALIZERS[(ref.group, ref.plural)]) not in finalizers:
            finalizers.append(name)
