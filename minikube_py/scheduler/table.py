"""The verdicts on nodes for pods that all plugins treat alike, kept from decision to decision.

Only nodes that changed since the last decision are looked at again. In a large cluster a table starts with a sample of the nodes, as
upstream's percentageOfNodesToScore does, and grows when the sample is used up. Possible nodes are kept in groups, by the values of the
scores that are relative to the best node's and by the classes of the ledgers. Those are few (a preference matches or not; a zone; how many
alike pods are on a host), so the best node is found among the groups' best ones, each on top of its heap: what changes for a whole zone is
judged anew at every decision, without a look at its nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from minikube_py.scheduler.bench import Demands, crowded, ledgers_of
from minikube_py.scheduler.diagnose import Diagnosis
from minikube_py.scheduler.nodeinfo import NodeInfo
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.profile import Profile
from minikube_py.scheduler.world import World

_SAMPLE_FROM = 100
"""Clusters up to this many nodes are always looked at whole."""


def sample_size(nodes: int) -> int:
    """How many possible nodes are enough to choose from: upstream's adaptive share, at least a hundred."""
    if nodes <= _SAMPLE_FROM:
        return nodes
    share = max(5, 50 - nodes // 125)
    return max(_SAMPLE_FROM, nodes * share // 100)


class Group(NamedTuple):
    """What nodes of one heap have in common: the values of relative scores, and the ledgers' classes."""

    values: tuple[int, ...]
    classes: tuple[Hashable, ...]


Entry = tuple[int, float, int, str]
"""A possible node: its points (negative: the smallest is the best), a random number for the order of equals, the generation of its
verdict, its name."""


class Table:
    """The verdicts for one sort of pods. An entry of a heap whose node has a later mark is stale."""

    def __init__(self, pod: PodInfo, profile: Profile, demands: Demands, world: World, random: Callable[[], float]) -> None:
        self._cluster, self._random = world.cluster, random
        applying = tuple(f for f in profile.filters if f.applies(pod))
        self._filters = tuple(f.filter for f in applying if not f.marked_nodes_only)
        self._marked_filters = tuple(f.filter for f in applying if f.marked_nodes_only)
        scoring = tuple(s for s in profile.scores if s.ranks(pod))
        self._scores = tuple((s.score, s.weight) for s in scoring if not s.normalize)
        self._relative = tuple(s for s in scoring if s.normalize)
        self._only_tainted = all(s.tainted_nodes_only for s in self._relative)
        self._plain = Group((0,) * len(self._relative), ())
        self._ledgers = ledgers_of(demands, pod, world)
        self._gates = tuple((at, ledger) for at, ledger in enumerate(self._ledgers) if ledger.filters)
        self._raters = tuple((at, ledger) for at, ledger in enumerate(self._ledgers) if ledger.weight)
        self._tallies = tuple({id(tally): tally for ledger in self._ledgers for tally in ledger.tallies}.values())
        self._generation = -1
        self._heaps: dict[Group, list[Entry]] = {}
        self._size = 0
        self._marks: dict[str, int] = {}
        self._pending: list[NodeInfo] = []
        self.diagnosis: Diagnosis | None = None
        """Why the last pod got no node, at the generation `diagnosed_at`."""
        self.diagnosed_at = -1

    def best(self, pod: PodInfo, start: int = 0) -> str | None:
        """The best node for a pod of this sort; None where none is possible. A sample of the nodes starts at `start`."""
        self._refresh(pod, start)
        node = self._choose()
        while node is None and self._pending:
            self._look_further(pod, len(self._pending))
            node = self._choose()
        return node

    def best_of(self, pod: PodInfo, possible: Sequence[NodeInfo]) -> str | None:
        """The best of a few nodes. A table that was asked this knows no others."""
        for tally in self._tallies:
            tally.refresh(self._cluster)
        for info in possible:
            self._look(pod, info)
        return self._choose()

    def _refresh(self, pod: PodInfo, start: int) -> None:
        cluster = self._cluster
        if self._generation != cluster.generation:
            for tally in self._tallies:
                tally.refresh(cluster)
            changed = cluster.changed_since(self._generation) if self._generation >= 0 else None
            if changed is None:
                self._begin(start)
            else:
                for info in changed:
                    self._look(pod, info)
            self._generation = cluster.generation
        if self._pending:
            # ledgers reject whole groups of nodes: a sample could miss those that are left
            wanted = len(cluster.nodes) if self._gates else sample_size(len(cluster.nodes))
            self._look_further(pod, wanted - len(self._marks))

    def _begin(self, start: int) -> None:
        self._marks.clear()
        self._heaps.clear()
        self._size = 0
        nodes = list(self._cluster.nodes.values())
        start %= max(len(nodes), 1)
        # taken from the end: the list is turned round, so that the next table starts where this one's sample ends
        self._pending = nodes[:start][::-1] + nodes[start:][::-1]

    def _look_further(self, pod: PodInfo, wanted: int) -> None:
        """Look at nodes that were not looked at yet, until so many more are possible."""
        pending, marks = self._pending, self._marks
        wanted += len(marks)
        while pending and len(marks) < wanted:
            info = pending.pop()
            if info.node is not None and info.name not in marks:
                self._look(pod, info)

    def _look(self, pod: PodInfo, info: NodeInfo) -> None:
        name = info.name
        if info.node is None:
            self._marks.pop(name, None)
            return
        for check in self._filters:
            if check(pod, info) is not None:
                self._marks.pop(name, None)
                return
        if (info.marked or info.nominated) and not self._passes(pod, info):
            self._marks.pop(name, None)
            return
        total = 0
        for score, weight in self._scores:
            total -= weight * score(pod, info)
        group = self._plain
        if self._relative and (info.preferred_taints or not self._only_tainted):
            group = Group(tuple([s.score(pod, info) for s in self._relative]), ())
        if self._ledgers:
            group = Group(group.values, tuple([ledger.sort(info) for ledger in self._ledgers]))
        self._marks[name] = info.generation
        heap = self._heaps.get(group)
        if heap is None:
            heap = self._heaps[group] = []
        heapq.heappush(heap, (total, self._random(), info.generation, name))
        self._size += 1

    def _passes(self, pod: PodInfo, info: NodeInfo) -> bool:
        """What need not be asked of most nodes: filters of marked ones, and of those that room is kept on."""
        if info.marked:
            for check in self._marked_filters:
                if check(pod, info) is not None:
                    return False
        full = crowded(info, pod, itself=True) if info.nominated else None
        if full is None:
            return True
        if any(check(pod, full) is not None for check in (*self._filters, *self._marked_filters)):
            return False
        for tally in self._tallies:
            tally.look(full)
        possible = all(ledger.judge(ledger.sort(full)) is None for _, ledger in self._gates)
        for tally in self._tallies:
            tally.look(info)
        return possible

    def _choose(self) -> str | None:
        marks = self._marks
        if self._size > 4 * len(marks) + 64:
            self._compact()
        tops: list[tuple[Group, Entry]] = []
        for group, heap in list(self._heaps.items()):
            while heap and marks.get(heap[0][3]) != heap[0][2]:
                heapq.heappop(heap)
                self._size -= 1
            if not heap:
                del self._heaps[group]
            elif not self._gates or all(ledger.judge(group.classes[at]) is None for at, ledger in self._gates):
                tops.append((group, heap[0]))
        if len(tops) <= 1:
            return tops[0][1][3] if tops else None
        points = self._points([group for group, _ in tops])
        at = min(range(len(tops)), key=lambda at: (tops[at][1][0] - points[at], tops[at][1][1]))
        return tops[at][1][3]

    def _points(self, groups: Sequence[Group]) -> Sequence[int]:
        total = [0] * len(groups)
        for at, plugin in enumerate(self._relative):
            highest = max(group.values[at] for group in groups)
            for index, group in enumerate(groups):
                share = group.values[at] * 100 // highest if highest else 0
                total[index] += plugin.weight * (100 - share if plugin.normalize == "reverse" else share)
        for at, ledger in self._raters:
            for index, share in enumerate(ledger.points([group.classes[at] for group in groups])):
                total[index] += ledger.weight * share
        return total

    def _compact(self) -> None:
        marks = self._marks
        for group, heap in self._heaps.items():
            kept = [entry for entry in heap if marks.get(entry[3]) == entry[2]]
            heapq.heapify(kept)
            self._heaps[group] = kept
        self._size = len(marks)
