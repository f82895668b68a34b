"""Running totals over the nodes of a topology domain: how many pods of some sort are in each zone, on each host.

A tally is brought up to date by the nodes that changed since it was last asked, so that a decision that looks across nodes costs what has
changed, not what there is. A node may be swapped for a hypothetical one and back: that is how preemption asks "what if".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from minikube_py.scheduler.nodeinfo import Cluster, NodeInfo

HOSTNAME = "kubernetes.io/hostname"
EVERYWHERE = ""
"""The topology key of a tally over the whole cluster."""
_KEPT = 256

Measure = Callable[[NodeInfo], int | None]


class Tally:
    """Totals by the values of one node label. `measure` tells a node's share; None where the node does not count at all."""

    __slots__ = ("_by_node", "_generation", "_levels", "_measure", "_sizes", "counts", "key", "total")

    def __init__(self, key: str, measure: Measure) -> None:
        self.key = key
        self._measure = measure
        self.counts: dict[str, int] = {}
        self.total = 0
        self._sizes: dict[str, int] = {}
        self._levels: dict[int, int] = {}
        self._by_node: dict[str, tuple[str, int]] = {}
        self._generation = -1

    def refresh(self, cluster: Cluster) -> None:
        """Take in what has changed."""
        if self._generation == cluster.generation:
            return
        changed = cluster.changed_since(self._generation) if self._generation >= 0 else None
        if changed is None:
            self.counts.clear()
            self._sizes.clear()
            self._levels.clear()
            self._by_node.clear()
            self.total = 0
            changed = cluster.nodes.values()
        for info in changed:
            self.look(info)
        self._generation = cluster.generation

    def look(self, info: NodeInfo) -> None:
        """Count a node as it is given, in place of how it was counted before."""
        was = self._by_node.pop(info.name, None)
        if was is not None:
            self._count(was[0], -was[1], -1)
        if info.node is None:
            return
        domain = info.labels.get(self.key) if self.key else EVERYWHERE
        share = self._measure(info) if domain is not None else None
        if domain is not None and share is not None:
            self._by_node[info.name] = (domain, share)
            self._count(domain, share, 1)

    def _count(self, domain: str, pods: int, nodes: int) -> None:
        self.total += pods
        before = self.counts.get(domain)
        if before is not None:
            left = self._levels[before] - 1
            if left:
                self._levels[before] = left
            else:
                del self._levels[before]
        size = self._sizes.get(domain, 0) + nodes
        if not size:
            del self.counts[domain], self._sizes[domain]
            return
        after = (before or 0) + pods
        self.counts[domain], self._sizes[domain] = after, size
        self._levels[after] = self._levels.get(after, 0) + 1

    def domain_of(self, info: NodeInfo) -> str | None:
        """The domain of a node; None where it has none."""
        return info.labels.get(self.key) if self.key else EVERYWHERE

    def share_of(self, node: str) -> int:
        """What a node counts for; 0 where it does not count."""
        counted = self._by_node.get(node)
        return counted[1] if counted is not None else 0

    def count(self, domain: str) -> int:
        """The total of a domain."""
        return self.counts.get(domain, 0)

    @property
    def domains(self) -> int:
        """How many domains have a node that counts."""
        return len(self.counts)

    @property
    def least(self) -> int:
        """The smallest total of any domain; 0 where there is none."""
        return min(self._levels, default=0)


class Tallies:
    """The tallies that decisions on one cluster use, shared by all pods that ask for the same."""

    def __init__(self) -> None:
        self._tallies: OrderedDict[Hashable, Tally] = OrderedDict()

    def of(self, name: Hashable, key: str, measure: Callable[[], Measure]) -> Tally:
        """The tally of that name: the name tells all that its measure depends on but the nodes."""
        tally = self._tallies.get((name, key))
        if tally is None:
            tally = self._tallies[name, key] = Tally(key, measure())
            if len(self._tallies) > _KEPT:
                self._tallies.popitem(last=False)
        else:
            self._tallies.move_to_end((name, key))
        return tally
