"""NamespaceLifecycle: nothing is made in a namespace that does not exist or is going; the namespaces that a cluster needs stay."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin, is_about, refusal
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.meta.errors import not_found
from minikube_py.types.core import Namespace

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
_CAUSE = "NamespaceTerminating"


class NamespaceLifecycle(Plugin):
    name = "NamespaceLifecycle"

    def __init__(self, cache: Cache) -> None:
        self._namespaces = cache.of(Namespace.resource)

    async def admit(self, request: AdmissionRequest) -> None:
        if is_about(request, "", "namespaces"):
            if request.operation is Operation.DELETE and request.name in IMMORTAL:
                raise refusal(request, "this namespace may not be deleted")
            return
        namespace = request.namespace
        if not namespace or request.operation is Operation.DELETE or is_about(request, "authorization.k8s.io", "localsubjectaccessreviews"):
            return
        entry = self._namespaces.get("", namespace)
        if entry is None:
            raise not_found("namespaces", namespace)
        if request.operation is Operation.CREATE and entry.view(Namespace).status.phase == "Terminating":
            error = refusal(request, f"unable to create new content in namespace {namespace} because it is being terminated")
            cause = {"reason": _CAUSE, "message": f"namespace {namespace} is being terminated", "field": "metadata.namespace"}
            error.details = {**(error.details or {}), "causes": [cause]}
            raise error
