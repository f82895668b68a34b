"""DefaultTolerationSeconds: a pod stays on a node that has gone away for five minutes, unless it says otherwise."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin, is_about
from minikube_py.apiserver.api import AdmissionRequest, Operation

TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
SECONDS = 300


class DefaultTolerationSeconds(Plugin):
    name = "DefaultTolerationSeconds"
    resources = frozenset({("", "pods")})

    async def admit(self, request: AdmissionRequest) -> None:
        pod = request.object
        if pod is None or request.subresource or request.operation is Operation.DELETE or not is_about(request, "", "pods"):
            return
        spec = pod.setdefault("spec", {})
        tolerations = spec.get("tolerations") or []
        missing = [
            taint
            for taint in TAINTS
            if not any(t.get("key") in (None, "", taint) and t.get("effect") in (None, "", "NoExecute") for t in tolerations)
        ]
        if missing:
            added = [{"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS} for taint in missing]
            spec["tolerations"] = [*tolerations, *added]
