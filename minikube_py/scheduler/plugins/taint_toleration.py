"""Taints: NoSchedule and NoExecute keep pods without a toleration away, PreferNoSchedule makes a node worse."""

from __future__ import annotations

from collections.abc import Sequence

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Rejection
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.types.core import Taint
from minikube_py.types.pod import Toleration
from minikube_py.types.taints import tolerates

_REJECTION = Rejection(("node(s) had untolerated taint(s)",), False, "TaintToleration")


class TaintToleration:
    """Filter and score on taints."""

    name = "TaintToleration"
    marked_nodes_only = True
    weight = 3
    normalize = "reverse"
    tainted_nodes_only = True

    def applies(self, pod: PodInfo) -> bool:
        return True

    def filter(self, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        for taint in node.blocking_taints:
            if not tolerates(pod.pod.spec.tolerations, taint):
                return _REJECTION
        return None

    def ranks(self, pod: PodInfo) -> bool:
        return True

    def score(self, pod: PodInfo, node: NodeInfo) -> int:
        return count_intolerable(pod.pod.spec.tolerations, node.preferred_taints) if node.preferred_taints else 0


def count_intolerable(tolerations: Sequence[Toleration], taints: Sequence[Taint]) -> int:
    """How many PreferNoSchedule taints the tolerations leave."""
    relevant = [t for t in tolerations if t.effect in ("", "PreferNoSchedule")]
    return sum(1 for taint in taints if not tolerates(relevant, taint))


__all__ = ["TaintToleration", "count_intolerable", "tolerates"]
