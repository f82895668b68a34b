"""A node is better the more a pod evens out how its cpu and memory are taken."""

from __future__ import annotations

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.podinfo import PodInfo


class NodeResourcesBalancedAllocation:
    """Score on the spread between the shares of cpu and memory that are asked for: with the pod against without it.

    About 75 where the pod changes little, towards 100 where it evens the node out, towards 50 where it does the contrary.
    """

    name = "NodeResourcesBalancedAllocation"
    weight = 1
    normalize = ""
    tainted_nodes_only = False

    def ranks(self, pod: PodInfo) -> bool:
        return pod.has_requests

    def score(self, pod: PodInfo, node: NodeInfo) -> int:
        cpu, memory = node.allocatable_cpu, node.allocatable_memory
        before = _evenness(node.requested_cpu, cpu, node.requested_memory, memory)
        after = _evenness(node.requested_cpu + pod.cpu, cpu, node.requested_memory + pod.memory, memory)
        return 50 + (50 + after - before) // 2


def _evenness(cpu: int, all_cpu: int, memory: int, all_memory: int) -> int:
    """50 to 100: the standard deviation of two shares is half their distance."""
    if not all_cpu or not all_memory:
        return 100
    return int((1 - abs(min(1.0, cpu / all_cpu) - min(1.0, memory / all_memory)) / 2) * 100)
