"""DefaultIngressClass: an Ingress that names no class gets the cluster's default one; of several the newest, of those the first by name."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.types.network import IngressClass

_DEFAULT = "ingressclass.kubernetes.io/is-default-class"
_CLASS = "kubernetes.io/ingress.class"


class DefaultIngressClass(Plugin):
    name = "DefaultIngressClass"
    resources = frozenset({("networking.k8s.io", "ingresses")})

    def __init__(self, cache: Cache) -> None:
        self._classes = cache.of(IngressClass.resource)

    async def admit(self, request: AdmissionRequest) -> None:
        if request.operation is not Operation.CREATE or request.subresource or request.object is None:
            return
        spec = request.object.setdefault("spec", {})
        annotations = (request.object.get("metadata") or {}).get("annotations") or {}
        if spec.get("ingressClassName") is not None or _CLASS in annotations:
            return
        classes = sorted((entry.view(IngressClass) for entry in self._classes.entries()), key=lambda c: c.metadata.name)
        defaults = [c for c in classes if c.metadata.annotations.get(_DEFAULT) == "true"]
        if defaults:
            spec["ingressClassName"] = max(defaults, key=lambda c: c.metadata.creationTimestamp or "").metadata.name
