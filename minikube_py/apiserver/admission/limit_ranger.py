"""LimitRanger: containers get the namespace's default requests and limits, and nothing asks for less or more than its ranges allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from minikube_py.apiserver.admission.base import Plugin, is_about, refusal
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.resources import limits
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.meta import Object
from minikube_py.types.pod import Pod
from minikube_py.types.policy import LimitRange

_VIEWS: Mapping[str, type[Object]] = {"pods": Pod, "persistentvolumeclaims": PersistentVolumeClaim}


class LimitRanger(Plugin):
    name = "LimitRanger"
    resources = frozenset(("", plural) for plural in _VIEWS)

    def __init__(self, cache: Cache) -> None:
        self._ranges = cache.of(LimitRange.resource)

    def _applying(self, request: AdmissionRequest) -> Sequence[LimitRange]:
        """The ranges that a write has to keep to."""
        if not len(self._ranges) or request.object is None or ((request.old or {}).get("metadata") or {}).get("deletionTimestamp"):
            return ()
        create, change = request.operation is Operation.CREATE, request.operation is Operation.UPDATE
        if is_about(request, "", "pods"):
            # containers cannot be changed in an update, but for a resize
            about = (create and not request.subresource) or (change and request.subresource == "resize")
        else:
            about = (create or change) and not request.subresource
        return [entry.view(LimitRange) for entry in self._ranges.entries(request.namespace)] if about else ()

    async def admit(self, request: AdmissionRequest) -> None:
        if not is_about(request, "", "pods"):
            return
        for each in self._applying(request):
            assert request.object is not None
            limits.fill_in(each, request.object)

    async def validate(self, request: AdmissionRequest) -> None:
        applying = self._applying(request)
        if not applying:
            return
        obj = msgspec.convert(request.object, _VIEWS[request.resource.ref.plural])
        for each in applying:
            found = limits.faults(each, obj)
            if found:
                raise refusal(request, found[0] if len(found) == 1 else f"[{', '.join(found)}]")
