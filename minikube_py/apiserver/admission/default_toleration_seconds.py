"""DefaultTolerationSeconds: a pod stays on a node that has gone away for a while (five minutes), unless it says otherwise."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin, is_about
from minikube_py.apiserver.api import AdmissionRequest, Operation

TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
SECONDS = 300


class DefaultTolerationSeconds(Plugin):
    name = "DefaultTolerationSeconds"
    resources = frozenset({("", "pods")})

    def __init__(self, not_ready: int = SECONDS, unreachable: int = SECONDS) -> None:
        self._seconds = dict(zip(TAINTS, (not_ready, unreachable), strict=True))

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
            execute = {"operator": "Exists", "effect": "NoExecute"}
            added = [{"key": taint, **execute, "tolerationSeconds": self._seconds[taint]} for taint in missing]
            spec["tolerations"] = [*tolerations, *added]
