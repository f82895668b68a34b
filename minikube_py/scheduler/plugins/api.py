"""What a scheduler plugin is: a filter says why a node is impossible, a score how good it is; both look at one node alone.

A plugin that looks further (at pods on other nodes, at volumes) is a `Wide` one. It first works out what a pod demands of its surroundings:
a value, equal for pods that it treats alike. For a demand it opens a `Ledger`, which sorts the nodes into classes (their zone, the number
of alike pods on them) and judges whole classes: what happens on one node changes the verdict on a class, and no other node has to be
looked at again.

Plugins are pure and keep nothing between calls; a ledger lives as long as the verdicts that it is for.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.tally import Tally
from minikube_py.scheduler.world import World


class Rejection(NamedTuple):
    """Why a node is impossible. `resolvable`: removing pods from the node could help."""

    reasons: tuple[str, ...]
    resolvable: bool
    plugin: str


class Refusal(NamedTuple):
    """Why no node at all is possible, whatever is removed from it."""

    message: str
    plugin: str


@runtime_checkable
class Filter(Protocol):
    """Tells impossible nodes."""

    name: str
    marked_nodes_only: bool
    """Whether it only ever rejects nodes that are cordoned or tainted: it is not asked of others."""

    def applies(self, pod: PodInfo) -> bool:
        """Whether the filter can reject any node for this pod."""

    def filter(self, pod: PodInfo, node: NodeInfo) -> Rejection | None:
        """Why the node is impossible; None where it is possible."""


@runtime_checkable
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


class Ledger(Protocol):
    """The verdicts for one demand."""

    filters: bool
    """Whether it can reject a node."""

    weight: int
    """What its points count; 0 where it gives none."""

    tallies: Sequence[Tally]
    """The running totals that it reads: to be refreshed before it is asked."""

    def sort(self, node: NodeInfo) -> Hashable:
        """The node's class: all that the verdict on it depends on, but for the totals."""

    def judge(self, of: Hashable) -> Rejection | None:
        """Why nodes of a class are impossible at present."""

    def points(self, classes: Sequence[Hashable]) -> Sequence[int]:
        """0 to 100 for each class of the possible nodes, the more the better."""


@runtime_checkable
class Wide(Protocol):
    """Looks further than at one node."""

    name: str
    of_claims: bool
    """Whether it is only about pods with volume claims: it is not asked of others."""

    def demand(self, pod: PodInfo, world: World) -> Hashable | Refusal | None:
        """What the pod demands of its surroundings; None for nothing."""

    def open(self, demand: Hashable, pod: PodInfo, world: World) -> Ledger:
        """A ledger for pods of that demand."""


Plugin = Filter | Score | Wide
