"""Topology spread: pods that belong together are put evenly into zones, onto hosts, into any domains that a node label makes.

Pods that say nothing of it get upstream's system defaults, which only rank nodes: by host, then by zone, counting the pods that the same
services select and the same workload owns. A demand holds the constraints with their selectors and whether the pod itself is counted.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import partial
from typing import NamedTuple, cast

from minikube_py.meta import selectors
from minikube_py.meta.selectors import Selector
from minikube_py.scheduler.groups import NOTHING, Kind
from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.plugins.api import Ledger, Rejection
from minikube_py.scheduler.plugins.node_affinity import matches_node
from minikube_py.scheduler.plugins.taint_toleration import tolerates
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.tally import HOSTNAME, Measure, Tally
from minikube_py.scheduler.world import World

ZONE = "topology.kubernetes.io/zone"
_WORDS = "node(s) didn't match pod topology spread constraints"
_UNEVEN = Rejection((_WORDS,), True, "PodTopologySpread")
_UNLABELLED = Rejection((_WORDS + " (missing required label)",), False, "PodTopologySpread")

Place = tuple[str | int | None, ...]
"""A node's class: for each constraint its domain, or (on hosts) the pods on it; None where the node lacks the label."""


class Constraint(NamedTuple):
    """One constraint, worked out. `taints` and `affinity`: whether nodes that the pod cannot go to count."""

    key: str
    skew: int
    selector: Selector
    hard: bool
    domains: int = 1
    affinity: bool = True
    taints: bool = False
    itself: bool = True


class Demand(NamedTuple):
    """All constraints of a pod; `strict`: only nodes with every label count. `eligible` tells by what the pod can go to a node."""

    namespace: str
    constraints: tuple[Constraint, ...]
    strict: bool
    eligible: Hashable


class PodTopologySpread:
    """Filter on constraints that must hold, rank by those that should."""

    name = "PodTopologySpread"
    of_claims = False
    weight = 2

    def demand(self, pod: PodInfo, world: World) -> Demand | None:
        spec = pod.pod.spec
        if spec.topologySpreadConstraints:
            constraints = tuple(
                Constraint(
                    c.topologyKey,
                    c.maxSkew,
                    selector := NOTHING if c.labelSelector is None else selectors.of_object(c.labelSelector) or selectors.EVERYTHING,
                    c.whenUnsatisfiable == "DoNotSchedule",
                    c.minDomains,
                    c.nodeAffinityPolicy == "Honor",
                    c.nodeTaintsPolicy == "Honor",
                    selector.matches(pod.kind.labels),
                )
                for c in spec.topologySpreadConstraints
            )
        else:
            objects, namespace = world.objects, pod.kind.namespace
            if not pod.owner[1] and namespace not in objects.services:
                return None
            selector = objects.selector_of(pod.kind.labels, namespace, *pod.owner)
            if not selector:
                return None
            constraints = (Constraint(HOSTNAME, 3, selector, False), Constraint(ZONE, 5, selector, False))
        node_affinity = spec.affinity.nodeAffinity if spec.affinity is not None else None
        required = node_affinity.requiredDuringSchedulingIgnoredDuringExecution if node_affinity is not None else None
        eligible = (tuple(sorted(spec.nodeSelector.items())), required, spec.tolerations if any(c.taints for c in constraints) else ())
        return Demand(pod.kind.namespace, constraints, bool(spec.topologySpreadConstraints), eligible)

    def open(self, demand: Hashable, pod: PodInfo, world: World) -> Ledger:
        return _Spread(cast("Demand", demand), pod, world)


class _Spread:
    def __init__(self, demand: Demand, pod: PodInfo, world: World) -> None:
        self._constraints = demand.constraints
        self._strict = demand.strict
        self.filters = any(c.hard for c in demand.constraints)
        self._soft = tuple(at for at, c in enumerate(demand.constraints) if not c.hard)
        self.weight = PodTopologySpread.weight if self._soft else 0
        self._cluster = world.cluster
        labels = tuple(c.key for c in demand.constraints if c.hard), tuple(c.key for c in demand.constraints if not c.hard)
        self.tallies: Sequence[Tally] = tuple(
            world.tallies.of(
                (
                    "spread",
                    demand.namespace,
                    c.selector,
                    labels[not c.hard] if demand.strict else (),
                    c.affinity,
                    c.taints,
                    demand.eligible,
                ),
                c.key,
                partial(_measure, c, demand, pod, labels[not c.hard] if demand.strict else ()),
            )
            for c in demand.constraints
        )

    def sort(self, node: NodeInfo) -> Place:
        return tuple(
            None if (domain := tally.domain_of(node)) is None else (tally.share_of(node.name) if constraint.key == HOSTNAME else domain)
            for constraint, tally in zip(self._constraints, self.tallies, strict=True)
        )

    def judge(self, of: Hashable) -> Rejection | None:
        for constraint, tally, where in zip(self._constraints, self.tallies, cast("Place", of), strict=True):
            if not constraint.hard:
                continue
            if where is None:
                return _UNLABELLED
            there = where if isinstance(where, int) else tally.count(where)
            least = tally.least if tally.domains >= constraint.domains else 0
            if there + constraint.itself - least > constraint.skew:
                return _UNEVEN
        return None

    def points(self, classes: Sequence[Hashable]) -> Sequence[int]:
        raw = [self._raw(cast("Place", of)) for of in classes]
        counted = [value for value in raw if value is not None]
        if not counted or not max(counted):
            return [100 if value is not None else 0 for value in raw]
        low, high = min(counted), max(counted)
        return [0 if value is None else 100 * (high + low - value) // high for value in raw]

    def _raw(self, place: Place) -> int | None:
        """The pods nearby, weighed so that few domains do not drown in many; None for nodes that are not ranked."""
        total = 0.0
        for at in self._soft:
            where, constraint, tally = place[at], self._constraints[at], self.tallies[at]
            if where is None:
                if self._strict:
                    return None
                continue
            if isinstance(where, int):
                pods, domains = where, len(self._cluster.nodes)
            else:
                pods, domains = tally.count(where), tally.domains
            total += pods * math.log(domains + 2) + constraint.skew - 1
        return round(total)


def _measure(constraint: Constraint, demand: Demand, pod: PodInfo, labels: Sequence[str]) -> Measure:
    """The alike pods of a node; None where the node is not one that the pod could go to, as far as the constraint's policies ask."""
    spec = pod.pod.spec
    known: dict[Kind, bool] = {}
    namespace, selector = demand.namespace, constraint.selector

    def measure(node: NodeInfo) -> int | None:
        if any(label not in node.labels for label in labels):
            return None
        if constraint.affinity and not matches_node(spec, node):
            return None
        if constraint.taints and any(not tolerates(spec.tolerations, taint) for taint in node.blocking_taints):
            return None
        count = 0
        for kind, number in node.kinds.items():
            alike = known.get(kind)
            if alike is None:
                alike = known[kind] = bool(selector) and kind.namespace == namespace and not kind.ending and selector.matches(kind.labels)
            if alike:
                count += number
        return count

    return measure
