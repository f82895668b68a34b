"""What a scheduler plugin is: a filter says why a node is impossible, a score how good it is.

Plugins are pure: a pod and a node in, a verdict out. They keep nothing between calls.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.podinfo import PodInfo


class Rejection(NamedTuple):
    """Why a node is impossible. `resolvable`: removing pods from the node could help."""

    reasons: tuple[str, ...]
    resolvable: bool
    plugin: str


class Filter(Protocol):
    """Tells impossible nodes."""

    name: str
    marked_nodes_only: bool
    """Whether it only ever rejects nodes that are cordoned or tainted: it is not asked of others."""

    def applies(self, pod: PodInfo) -> bool:
        """Whether the filter can reject any node for this pod."""

    def filter(self, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        """Why the node is impossible; None where it is possible."""


class Score(Protocol):
    """Ranks possible nodes."""

    name: str
    weight: int
    normalize: str
    """"" where scores are 0 to 100 as they are; "max": scaled so that the best has 100; "reverse": the same, fewer is better."""

    tainted_nodes_only: bool
    """Whether it gives 0 to every node without a PreferNoSchedule taint: it is not asked of those."""

    def ranks(self, pod: PodInfo) -> bool:
        """Whether the score can differ from node to node for this pod."""

    def score(self, pod: PodInfo, node: NodeInfo) -> int:
        """Points, the more the better (but for "reverse")."""
