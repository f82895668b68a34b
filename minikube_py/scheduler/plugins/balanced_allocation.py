"""A node is better the more evenly its cpu and memory are taken."""

from __future__ import annotations

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.podinfo import PodInfo


class NodeResourcesBalancedAllocation:
    """Score on the spread between the shares of cpu and memory that are asked for."""

    name = "NodeResourcesBalancedAllocation"
    weight = 1
    normalize = ""
    tainted_nodes_only = False

    def ranks(self, pod: PodInfo) -> bool:
        return pod.has_requests

    def score(self, pod: PodInfo, node: NodeInfo) -> int:
        cpu, memory = node.allocatable_cpu, node.allocatable_memory
        if not cpu or not memory:
            return 100
        cpu_share = min(1.0, (node.requested_cpu + pod.cpu) / cpu)
        memory_share = min(1.0, (node.requested_memory + pod.memory) / memory)
        # the standard deviation of two values is half their distance
        return int((1 - abs(cpu_share - memory_share) / 2) * 100)
