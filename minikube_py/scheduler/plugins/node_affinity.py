"""Node selectors and node affinity: the required terms filter, the preferred ones score."""

from __future__ import annotations

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Refusal, Rejection
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.types.nodeaffinity import fits, preference_matches
from minikube_py.types.pod import NodeAffinity as Affinity
from minikube_py.types.pod import PodSpec

_REJECTION = Rejection(("node(s) didn't match Pod's node affinity/selector",), False, "NodeAffinity")
CONFLICT = Refusal("pod affinity terms conflict", "NodeAffinity")
"""For a pod each of whose terms asks for nodes of several names at once."""


class NodeAffinity:
    """Filter and score on labels and names of nodes."""

    name = "NodeAffinity"
    marked_nodes_only = False
    weight = 2
    normalize = "max"
    tainted_nodes_only = False

    def applies(self, pod: PodInfo) -> bool:
        spec = pod.pod.spec
        return bool(spec.nodeSelector) or affinity_of(pod) is not None

    def filter(self, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        return None if matches_node(pod.pod.spec, node) else _REJECTION

    def ranks(self, pod: PodInfo) -> bool:
        affinity = affinity_of(pod)
        return affinity is not None and bool(affinity.preferredDuringSchedulingIgnoredDuringExecution)

    def score(self, pod: PodInfo, node: NodeInfo) -> int:
        affinity = affinity_of(pod)
        if affinity is None:
            return 0
        preferred = affinity.preferredDuringSchedulingIgnoredDuringExecution
        return sum(p.weight for p in preferred if p.weight and preference_matches(p.preference, node.labels, node.name))


def matches_node(spec: PodSpec, node: NodeInfo) -> bool:
    """Whether a pod's node selector and required node affinity allow a node."""
    return (not spec.nodeSelector and spec.affinity is None) or fits(spec, node.labels, node.name)


def affinity_of(pod: PodInfo) -> Affinity | None:
    """The pod's node affinity, if it has any."""
    affinity = pod.pod.spec.affinity
    return affinity.nodeAffinity if affinity is not None else None


def names_of(pod: PodInfo) -> frozenset[str] | None:
    """The only nodes that the required terms can match, by name; None where any could. Daemon pods name theirs."""
    affinity = affinity_of(pod)
    required = affinity.requiredDuringSchedulingIgnoredDuringExecution if affinity is not None else None
    if required is None or not required.nodeSelectorTerms:
        return None
    names: set[str] = set()
    for term in required.nodeSelectorTerms:
        named = [set(r.values) for r in term.matchFields if r.key == "metadata.name" and r.operator == "In"]
        if not named:
            return None
        names |= set.intersection(*named)
    return frozenset(names)
