"""Inter-pod affinity: pods that want to be, must be or must not be in the same topology domain as certain others.

It works both ways: a pod that must not be near others keeps them away as well (symmetry), and what placed pods require and prefer ranks
the nodes for those that come later. A demand holds the pod's own terms and, of the terms that placed pods use, those that mean it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, cast

from minikube_py.scheduler.groups import Kind, Term, Use
from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Ledger, Rejection
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.tally import HOSTNAME, Measure, Tally
from minikube_py.scheduler.world import World

_TOO_FAR = Rejection(("node(s) didn't match pod affinity rules",), False, "InterPodAffinity")
_TOO_NEAR = Rejection(("node(s) didn't match pod anti-affinity rules",), True, "InterPodAffinity")
_UNWANTED = Rejection(("node(s) didn't satisfy existing pods anti-affinity rules",), True, "InterPodAffinity")
_REQUIRED_WEIGHT = 1
"""What a required affinity of a placed pod weighs in the ranking (hardPodAffinityWeight)."""

Place = tuple[str | int | None, ...]
"""A node's class: for each term its domain, or (on hosts) the number of pods that it is about; None where the node lacks the label."""


class Demand(NamedTuple):
    """`first`: whether the pod fulfils its own required affinity, so that it may be the first of its sort. `namespaces`: the version of
    the namespaces' labels that the terms were worked out with."""

    near: tuple[Term, ...]
    first: bool
    anti: tuple[Term, ...]
    unwanted: tuple[Use, ...]
    wished: tuple[tuple[int, Term], ...]
    felt: tuple[Use, ...]
    namespaces: int


class InterPodAffinity:
    """Filter on required terms of both sides, rank by all preferred ones and the required affinity of placed pods."""

    name = "InterPodAffinity"
    of_claims = False
    weight = 2

    def demand(self, pod: PodInfo, world: World) -> Demand | None:
        wishes, uses = pod.wishes, world.cluster.uses
        if not pod.uses and not uses:
            return None
        namespaces = world.objects.namespaces
        mean_it = [use for use in uses if use.term.matches(pod.kind, namespaces)]
        unwanted = tuple(use for use in mean_it if use.role == "anti")
        felt = tuple(use for use in mean_it if use.role != "anti")
        if not (pod.uses or mean_it):
            return None
        first = bool(wishes.near) and all(term.matches(pod.kind, namespaces) for term in wishes.near)
        wished = (*wishes.prefer, *((-weight, term) for weight, term in wishes.avoid))
        return Demand(wishes.near, first, wishes.anti, unwanted, wished, felt, world.objects.namespace_version)

    def open(self, demand: Hashable, pod: PodInfo, world: World) -> Ledger:
        return _Neighbours(cast("Demand", demand), world)


class _Neighbours:
    """The tallies in this order: required affinity, required anti-affinity, anti-affinity of others, preferences, others' preferences."""

    def __init__(self, demand: Demand, world: World) -> None:
        self._first = demand.first
        self._near = len(demand.near)
        self._anti = self._near + len(demand.anti)
        self._unwanted = self._anti + len(demand.unwanted)
        self._weights = (*(weight for weight, _ in demand.wished), *(_weight(use) for use in demand.felt))
        self.filters = self._unwanted > 0
        self.weight = InterPodAffinity.weight if self._weights else 0
        every = frozenset(demand.near)
        version = demand.namespaces

        def of(pods: frozenset[Term], topology: str) -> Tally:
            return world.tallies.of(("pods", pods, version), topology, lambda: _pods(pods, world))

        def using(use: Use) -> Tally:
            return world.tallies.of(("uses", use), use.term.topology, lambda: _users(use))

        self.tallies: Sequence[Tally] = (
            *(of(every, term.topology) for term in demand.near),
            *(of(frozenset({term}), term.topology) for term in demand.anti),
            *(using(use) for use in demand.unwanted),
            *(of(frozenset({term}), term.topology) for _, term in demand.wished),
            *(using(use) for use in demand.felt),
        )

    def sort(self, node: NodeInfo) -> Place:
        return tuple(
            (tally.share_of(node.name) if tally.key == HOSTNAME else domain) if (domain := tally.domain_of(node)) is not None else None
            for tally in self.tallies
        )

    def judge(self, of: Hashable) -> Rejection | None:
        place = cast("Place", of)
        near = range(self._near)
        if any(place[at] is None for at in near):
            return _TOO_FAR
        if any(not self._count(at, place) for at in near) and not (self._first and not any(self.tallies[at].total for at in near)):
            return _TOO_FAR
        if any(self._count(at, place) for at in range(self._near, self._anti)):
            return _TOO_NEAR
        if any(self._count(at, place) for at in range(self._anti, self._unwanted)):
            return _UNWANTED
        return None

    def points(self, classes: Sequence[Hashable]) -> Sequence[int]:
        raw = [self._raw(cast("Place", of)) for of in classes]
        low, high = min(raw), max(raw)
        return [int(100 * ((value - low) / (high - low))) if high > low else 0 for value in raw]

    def _raw(self, place: Place) -> int:
        return sum(weight * self._count(at, place) for at, weight in enumerate(self._weights, self._unwanted))

    def _count(self, at: int, place: Place) -> int:
        where = place[at]
        if where is None:
            return 0
        return where if isinstance(where, int) else self.tallies[at].count(where)


def _weight(use: Use) -> int:
    return {"near": _REQUIRED_WEIGHT, "prefer": use.weight, "avoid": -use.weight}[use.role]


def _pods(terms: frozenset[Term], world: World) -> Measure:
    """The pods of a node that all the terms mean."""
    known: dict[Kind, bool] = {}
    namespaces = dict(world.objects.namespaces)

    def measure(node: NodeInfo) -> int:
        count = 0
        for kind, number in node.kinds.items():
            meant = known.get(kind)
            if meant is None:
                meant = known[kind] = all(term.matches(kind, namespaces) for term in terms)
            if meant:
                count += number
        return count

    return measure


def _users(use: Use) -> Measure:
    """The pods of a node that use a term."""
    return lambda node: node.uses.get(use, 0)
