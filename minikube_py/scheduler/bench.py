"""One pod against one node at a time, as it is or as it would be: every filter is asked.

Tables (table.py) keep verdicts on all nodes for pods of a sort. This is for the rest: the node that room was made on, nodes named by the
pod, nodes that a change may have opened, and nodes as they would be with some pods gone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins import Ledger, Refusal, Rejection, Wide
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.profile import Profile
from minikube_py.scheduler.world import World


class Demand(NamedTuple):
    """What a pod demands of its surroundings, and by which plugin."""

    plugin: Wide
    what: Hashable


Demands = tuple[Demand, ...]


def demands_of(pod: PodInfo, profile: Profile, world: World) -> Demands | Refusal:
    """All demands of a pod, in the plugins' order; the first refusal ends it."""
    found: list[Demand] = []
    for plugin in profile.wide if pod.claims else profile.wide_without_claims:
        what = plugin.demand(pod, world)
        if what is None:
            continue
        if isinstance(what, Refusal):
            return what
        found.append(Demand(plugin, what))
    return tuple(found)


def ledgers_of(demands: Demands, pod: PodInfo, world: World) -> tuple[Ledger, ...]:
    """A ledger for each demand."""
    return tuple(demand.plugin.open(demand.what, pod, world) for demand in demands)


def crowded(node: NodeInfo, pod: PodInfo, *, itself: bool = False) -> NodeInfo | None:
    """The node with all pods on it that room is kept for and that matter as much as this one (not counting it, but for `itself`)."""
    others = [p for p in node.nominated.values() if p.priority >= pod.priority and (itself or p.uid != pod.uid)]
    if not others:
        return None
    made = node.copy()
    for other in others:
        made.add(other)
    return made


class Bench:
    """The filters for one pod, at one state of the world."""

    def __init__(self, pod: PodInfo, profile: Profile, demands: Demands, world: World) -> None:
        self.pod = pod
        self._filters = tuple(f for f in profile.filters if f.applies(pod))
        self._ledgers: Sequence[Ledger] = tuple(ledger for ledger in ledgers_of(demands, pod, world) if ledger.filters)
        self._cluster = world.cluster
        for ledger in self._ledgers:
            for tally in ledger.tallies:
                tally.refresh(world.cluster)

    def verdict(self, node: NodeInfo) -> Rejection | None:
        """Why the node is impossible as it is, pods that room is kept for not counted."""
        for check in self._filters:
            rejection = check.filter(self.pod, node)
            if rejection is not None:
                return rejection
        for ledger in self._ledgers:
            rejection = ledger.judge(ledger.sort(node))
            if rejection is not None:
                return rejection
        return None

    def if_it_were(self, node: NodeInfo) -> Rejection | None:
        """The verdict on a node that does not exist like this, in place of the one of its name."""
        real = self._cluster.nodes.get(node.name)
        for check in self._filters:
            rejection = check.filter(self.pod, node)
            if rejection is not None:
                return rejection
        for ledger in self._ledgers:
            for tally in ledger.tallies:
                tally.look(node)
            rejection = ledger.judge(ledger.sort(node))
            for tally in ledger.tallies:
                tally.look(real if real is not None else node)
            if rejection is not None:
                return rejection
        return None

    def fits(self, node: NodeInfo) -> Rejection | None:
        """The verdict with the pods that room is kept for, and without them (they may never come)."""
        full = crowded(node, self.pod)
        if full is not None and (rejection := self.if_it_were(full)) is not None:
            return rejection
        return self.verdict(node)

    def would_fit(self, node: NodeInfo) -> Rejection | None:
        """The same for a node that does not exist like this."""
        full = crowded(node, self.pod)
        if full is not None and (rejection := self.if_it_were(full)) is not None:
            return rejection
        return self.if_it_were(node)
