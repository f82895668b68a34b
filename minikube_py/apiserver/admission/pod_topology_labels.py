"""PodTopologyLabels: a pod that is bound gets the zone and region of its node as labels of its own (KEP-4742)."""

from __future__ import annotations

from minikube_py.apiserver.admission.base import Plugin
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache
from minikube_py.types.core import Node

COPIED = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class PodTopologyLabels(Plugin):
    name = "PodTopologyLabels"
    resources = frozenset({("", "pods")})

    def __init__(self, cache: Cache) -> None:
        self._nodes = cache.of(Node.resource)

    async def admit(self, request: AdmissionRequest) -> None:
        """For a Binding its labels, which the pod takes over; for a pod that comes with its node, the pod's own."""
        if request.operation is not Operation.CREATE or request.object is None:
            return
        if request.subresource == "binding":
            target = request.object.get("target") or {}
            node = target.get("name") if target.get("kind") == "Node" else None
        else:
            node = (request.object.get("spec") or {}).get("nodeName") if not request.subresource else None
        entry = self._nodes.get("", node) if node else None
        if entry is None:
            return
        labels = {label: entry.labels[label] for label in COPIED if label in entry.labels}
        if labels:
            meta = request.object["metadata"]
            meta["labels"] = {**(meta.get("labels") or {}), **labels}
