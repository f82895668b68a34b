"""How fast nodes that are not ready may be emptied, zone by zone: the fewer nodes of a zone are ready, the likelier it is the network.

What flows through: the readiness of all nodes → a state of every zone → whether one more node may be given the taint that drives its pods
out, and when. Pure but for what it remembers: the clock is passed in.

What always holds (the rules are kube-controller-manager's): a zone gives up one node in ten seconds; one that has lost most of its nodes
gives up none, or, where it is large, one in a hundred seconds; where no zone has a node that is ready, it is the control plane that is
alone, and nothing is given up at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import Enum

import msgspec

from minikube_py.types.core import Node
from minikube_py.types.meta import ObjectMeta

REGION_LABEL = "topology.kubernetes.io/region"
ZONE_LABEL = "topology.kubernetes.io/zone"
EXCLUDED_LABEL = "node.kubernetes.io/exclude-disruption"

Zone = tuple[str, str]


class State(Enum):
    """How a zone is."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


class Rates(msgspec.Struct, frozen=True):
    """How many nodes a second may be given up; the names are kube-controller-manager's flags."""

    node_eviction_rate: float = 0.1
    secondary_node_eviction_rate: float = 0.01
    large_cluster_size_threshold: int = 50
    unhealthy_zone_threshold: float = 0.55


def zone_of(meta: ObjectMeta) -> Zone:
    """The zone of a node: its region and its zone label."""
    return meta.labels.get(REGION_LABEL, ""), meta.labels.get(ZONE_LABEL, "")


def state(ready: int, not_ready: int, threshold: float) -> State:
    """The state of a zone with so many nodes. Two nodes that are away never make a disruption of a zone with others."""
    if not ready and not_ready:
        return State.FULL
    if not_ready > 2 and not_ready / (ready + not_ready) >= threshold:
        return State.PARTIAL
    return State.NORMAL


def states(nodes: Iterable[tuple[Node, bool]], threshold: float) -> dict[Zone, tuple[State, int]]:
    """The state and the size of every zone, of nodes and whether each is ready. Nodes may be excluded by a label."""
    counts: dict[Zone, list[int]] = {}
    for node, ready in nodes:
        if EXCLUDED_LABEL not in node.metadata.labels:
            counts.setdefault(zone_of(node.metadata), [0, 0])[ready] += 1
    return {zone: (state(ready, away, threshold), ready + away) for zone, (away, ready) in counts.items()}


class Zones:
    """The zones' states, and when each has given up a node last."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self._states: Mapping[Zone, tuple[State, int]] = {}
        self._last: dict[Zone, float] = {}
        self.stopped = False
        """No zone has a node that is ready: no node has that taint, and none gets it."""

    def observe(self, now_are: Mapping[Zone, tuple[State, int]]) -> bool:
        """Take the zones' states; whether the cluster has just come out of a disruption of all of it."""
        was = self.stopped
        self._states = now_are
        self._last = {zone: at for zone, at in self._last.items() if zone in now_are}
        self.stopped = bool(now_are) and all(state is State.FULL for state, _ in now_are.values())
        return was and not self.stopped

    def wait(self, zone: Zone, now: float) -> float | None:
        """Seconds until one more node of the zone may be given up: 0 now, None while nothing is."""
        rate = self._rate(zone)
        if self.stopped or not rate:
            return None
        return max(0.0, self._last.get(zone, -math.inf) + 1 / rate - now)

    def give_up(self, zone: Zone, now: float) -> None:
        """A node of the zone is given up now."""
        self._last[zone] = now

    def _rate(self, zone: Zone) -> float:
        """A zone of which nothing is ready, beside others that are well, is emptied as usual: its pods have somewhere to go."""
        found, size = self._states.get(zone, (State.NORMAL, 0))
        if found is not State.PARTIAL:
            return self._rates.node_eviction_rate
        return self._rates.secondary_node_eviction_rate if size > self._rates.large_cluster_size_threshold else 0.0
