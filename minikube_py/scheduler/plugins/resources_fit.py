"""Resources: a node must have what the pod asks for; the emptier it is afterwards, the better (least allocated)."""

from __future__ import annotations

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Rejection
from minikube_py.scheduler.podinfo import PodInfo


class NodeResourcesFit:
    """Filter and score on requests."""

    name = "NodeResourcesFit"
    marked_nodes_only = False
    weight = 1
    normalize = ""
    tainted_nodes_only = False

    def applies(self, pod: PodInfo) -> bool:
        return True

    def filter(self, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        if (
            len(node.pods) < node.allocatable_pods
            and (not pod.cpu or pod.cpu <= node.allocatable_cpu - node.requested_cpu)
            and (not pod.memory or pod.memory <= node.allocatable_memory - node.requested_memory)
            and not pod.storage
            and not pod.extended
        ):
            return None
        return self._explain(pod, node)

    def _explain(self, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        reasons: list[str] = []
        resolvable = True
        if len(node.pods) + 1 > node.allocatable_pods:
            reasons.append("Too many pods")
        needs = [
            ("cpu", pod.cpu, node.allocatable_cpu, node.requested_cpu),
            ("memory", pod.memory, node.allocatable_memory, node.requested_memory),
            ("ephemeral-storage", pod.storage, node.allocatable_storage, node.requested_storage),
        ]
        needs += [(name, value, node.allocatable_extended.get(name, 0), node.extended.get(name, 0)) for name, value in pod.extended]
        for name, wanted, offered, taken in needs:
            if wanted and wanted > offered - taken:
                reasons.append(f"Insufficient {name}")
                if wanted > offered:
                    resolvable = False
        return Rejection(tuple(reasons), resolvable, self.name) if reasons else None

    def ranks(self, pod: PodInfo) -> bool:
        return True

    def score(self, pod: PodInfo, node: NodeInfo) -> int:
        total = kinds = 0
        offered = node.allocatable_cpu
        if offered:
            kinds += 1
            free = offered - node.counted_cpu - pod.counted_cpu
            if free > 0:
                total += free * 100 // offered
        offered = node.allocatable_memory
        if offered:
            kinds += 1
            free = offered - node.counted_memory - pod.counted_memory
            if free > 0:
                total += free * 100 // offered
        return total // kinds if kinds else 0
