"""A cordoned node takes only pods that tolerate it."""

from __future__ import annotations

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Rejection
from minikube_py.scheduler.plugins.taint_toleration import tolerates
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.types.core import Taint

_TAINT = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
_REJECTION = Rejection(("node(s) were unschedulable",), False, "NodeUnschedulable")


class NodeUnschedulable:
    """Filter on spec.unschedulable."""

    name = "NodeUnschedulable"
    marked_nodes_only = True

    def applies(self, pod: PodInfo) -> bool:
        return True

    def filter(self, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        if not node.unschedulable or tolerates(pod.pod.spec.tolerations, _TAINT):
            return None
        return _REJECTION
