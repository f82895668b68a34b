"""PodResizeValidator: a resize that asks for more than its node has to give is refused at once, since it could never be fulfilled."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin, is_about, refusal
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.meta import quantity
from minikube_py.meta.errors import Forbidden
from minikube_py.resources.quantities import container_requests
from minikube_py.types.core import Node


class PodResizeValidator(Plugin):
    name = "PodResizeValidator"
    resources = frozenset({("", "pods")})

    def __init__(self, cache: Cache) -> None:
        self._nodes = cache.of(Node.resource)

    async def validate(self, request: AdmissionRequest) -> None:
        pod, old = request.object, request.old
        if request.operation is not Operation.UPDATE or request.subresource != "resize" or not is_about(request, "", "pods"):
            return
        if pod is None or old is None or pod["metadata"].get("generation") == old["metadata"].get("generation"):
            return
        name = pod["spec"].get("nodeName")
        if not name:
            return
        entry = self._nodes.get("", name)
        if entry is None:
            raise refusal(request, f'node "{name}" not found')
        node = entry.decode()
        system = (node["metadata"].get("labels") or {}).get("kubernetes.io/os", "linux")
        if system != "linux":
            raise _refusal(request, f'pod resize is only supported on linux nodes, node "{name}" is "{system}"', "UnsupportedPlatform")
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        whole = (pod["spec"].get("resources") or {}).get("requests") or {}
        asked = {**container_requests(pod["spec"]), **whole}
        problems = []
        for resource in ("cpu", "memory"):
            wanted, there = quantity.parse(asked.get(resource, "0")), quantity.parse(allocatable.get(resource, "0"))
            if wanted > there:
                shown = (wanted.milli(), there.milli()) if resource == "cpu" else (wanted.value(), there.value())
                problems.append(f"{resource}, requested: {shown[0]}, allocatable: {shown[1]}")
        if problems:
            raise _refusal(request, f"node didn't have enough allocatable resources: {'; '.join(problems)}", "NodeCapacity")


def _refusal(request: AdmissionRequest, why: str, cause: str) -> Forbidden:
    error = refusal(request, why)
    error.details = {**(error.details or {}), "causes": [{"reason": cause}]}
    return error
