"""Two pods cannot have the same port of a node."""

from __future__ import annotations

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Rejection
from minikube_py.scheduler.podinfo import HostPort, PodInfo

_ANY = "0.0.0.0"
_REJECTION = Rejection(("node(s) didn't have free ports for the requested pod ports",), True, "NodePorts")


class NodePorts:
    """Filter on host ports."""

    name = "NodePorts"
    marked_nodes_only = False

    def applies(self, pod: PodInfo) -> bool:
        return bool(pod.ports)

    def filter(self, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        if any(_clash(wanted, taken) for wanted in pod.ports for taken in node.ports):
            return _REJECTION
        return None


def _clash(a: HostPort, b: HostPort) -> bool:
    return a.port == b.port and a.protocol == b.protocol and (a.ip == b.ip or _ANY in (a.ip, b.ip))
