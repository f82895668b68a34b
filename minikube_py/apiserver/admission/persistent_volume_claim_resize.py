"""PersistentVolumeClaimResize: only a claim that is bound, and whose class says so, may ask for more than it did."""

from __future__ import annotations

from typing import Any

from minikube_py.apiserver.admission.base import Plugin, refusal
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.meta import quantity
from minikube_py.types.storage import BETA_CLASS, StorageClass


class PersistentVolumeClaimResize(Plugin):
    name = "PersistentVolumeClaimResize"
    resources = frozenset({("", "persistentvolumeclaims")})

    def __init__(self, cache: Cache) -> None:
        self._classes = cache.of(StorageClass.resource)

    async def validate(self, request: AdmissionRequest) -> None:
        claim, old = request.object, request.old
        if request.operation is not Operation.UPDATE or request.subresource or claim is None or old is None:
            return
        if quantity.parse(_size(claim)) <= quantity.parse(_size(old)):
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise refusal(request, "Only bound persistent volume claims can be expanded")
        name = _class(claim)
        entry = self._classes.get("", name) if name and name == _class(old) else None
        if entry is None or not entry.view(StorageClass).allowVolumeExpansion:
            why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
            raise refusal(request, why)


def _size(claim: dict[str, Any]) -> Any:
    resources = claim["spec"].get("resources") or {}
    return (resources.get("requests") or {}).get("storage", "0")


def _class(claim: dict[str, Any]) -> str:
    annotations = claim["metadata"].get("annotations") or {}
    return str(annotations.get(BETA_CLASS) or claim["spec"].get("storageClassName") or "")
