"""A pod that names its node goes nowhere else."""

from __future__ import annotations

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Rejection
from minikube_py.scheduler.podinfo import PodInfo

_REJECTION = Rejection(("node(s) didn't match the requested node name",), False, "NodeName")


class NodeName:
    """Filter on spec.nodeName."""

    name = "NodeName"
    marked_nodes_only = False

    def applies(self, pod: PodInfo) -> bool:
        return bool(pod.pod.spec.nodeName)

    def filter(self, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        return None if pod.pod.spec.nodeName == node.name else _REJECTION
