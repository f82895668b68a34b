"""TaintNodesByCondition: a new node takes no pods until the node lifecycle controller has seen that it is ready."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin, is_about
from minikube_py.apiserver.api import AdmissionRequest, Operation

NOT_READY = "node.kubernetes.io/not-ready"


class TaintNodesByCondition(Plugin):
    name = "TaintNodesByCondition"
    resources = frozenset({("", "nodes")})

    async def admit(self, request: AdmissionRequest) -> None:
        node = request.object
        if node is None or request.operation is not Operation.CREATE or request.subresource or not is_about(request, "", "nodes"):
            return
        spec = node.setdefault("spec", {})
        taints = spec.get("taints") or []
        if not any(taint.get("key") == NOT_READY and taint.get("effect") == "NoSchedule" for taint in taints):
            spec["taints"] = [*taints, {"key": NOT_READY, "effect": "NoSchedule"}]
