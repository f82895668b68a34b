"""The decision: a pod and the cluster in; a node out, or why there is none.

Pure but for the order of equals, which the given random source breaks. Incremental: for pods that all plugins treat alike (one signature)
the verdicts on nodes are kept in a table, and only nodes that changed since the last decision are looked at again. In a large cluster a
table starts with a sample of the nodes, as upstream's percentageOfNodesToScore does, and grows when the sample is used up.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from minikube_py.scheduler.nodeinfo import Cluster, NodeInfo
from minikube_py.scheduler.plugins import FILTERS, SCORES, Filter, Rejection, Score
from minikube_py.scheduler.plugins.node_affinity import names_of
from minikube_py.scheduler.podinfo import PodInfo

_TABLES = 64
_SAMPLE_FROM = 100
"""Clusters up to this many nodes are always looked at whole."""


class Diagnosis(NamedTuple):
    """Why no node is possible, as the event and the condition say it, and the plugins that said no."""

    message: str
    plugins: frozenset[str]


class Decision(NamedTuple):
    """A node, or why there is none."""

    node: str | None
    diagnosis: Diagnosis | None = None


NO_NODES = Diagnosis("no nodes available to schedule pods", frozenset())


def sample_size(nodes: int) -> int:
    """How many possible nodes are enough to choose from: upstream's adaptive share, at least a hundred."""
    if nodes <= _SAMPLE_FROM:
        return nodes
    share = max(5, 50 - nodes // 125)
    return max(_SAMPLE_FROM, nodes * share // 100)


class _Table:
    """The verdicts for one signature. `marks`: node name → generation of its verdict, for possible nodes; `pending`: not looked at yet.

    `heaps`: possible nodes by the values of the scores that are relative to the best node's, each heap with its best node on top. Those
    values are few (a preference matches or not), so the best node is found among the tops. Entries whose mark has moved on are stale.
    """

    __slots__ = (
        "diagnosed_at",
        "diagnosis",
        "filters",
        "generation",
        "heaps",
        "level",
        "marked_filters",
        "marks",
        "pending",
        "relative",
        "scores",
        "size",
    )

    def __init__(self, pod: PodInfo, filters: Iterable[Filter], scores: Iterable[Score]) -> None:
        applying = tuple(f for f in filters if f.applies(pod))
        self.filters = tuple(f.filter for f in applying if not f.marked_nodes_only)
        self.marked_filters = tuple(f.filter for f in applying if f.marked_nodes_only)
        scoring = tuple(s for s in scores if s.ranks(pod))
        self.scores = tuple((s.score, s.weight) for s in scoring if not s.normalize)
        self.relative = tuple(s for s in scoring if s.normalize)
        self.level = (0,) * len(self.relative) if all(s.tainted_nodes_only for s in self.relative) else None
        self.generation = 0
        self.heaps: dict[tuple[int, ...], list[tuple[int, float, int, str]]] = {}
        self.size = 0
        self.marks: dict[str, int] = {}
        self.pending: list[NodeInfo] = []
        self.diagnosis: Diagnosis | None = None
        self.diagnosed_at = -1


class Decider:
    """Decides on one cluster."""

    def __init__(
        self, cluster: Cluster, random: Callable[[], float], filters: tuple[Filter, ...] = FILTERS, scores: tuple[Score, ...] = SCORES
    ) -> None:
        self._cluster, self._random, self._filters, self._scores = cluster, random, filters, scores
        self._tables: OrderedDict[object, _Table] = OrderedDict()
        self._offset = 0

    def decide(self, pod: PodInfo) -> Decision:
        """The best node for the pod."""
        cluster = self._cluster
        if not cluster.nodes:
            return Decision(None, NO_NODES)
        names = names_of(pod)
        if names is not None:
            return self._decide_among(pod, names)
        table = self._tables.get(pod.signature)
        if table is None:
            table = self._tables[pod.signature] = _Table(pod, self._filters, self._scores)
            if len(self._tables) > _TABLES:
                self._tables.popitem(last=False)
            self._fill(table)
        else:
            self._tables.move_to_end(pod.signature)
        self._refresh(table, pod)
        node = self._best(table)
        if node is not None:
            return Decision(node)
        if table.diagnosed_at != cluster.generation:
            table.diagnosis = diagnose(pod, cluster.nodes.values(), self._filters, None)
            table.diagnosed_at = cluster.generation
        return Decision(None, table.diagnosis)

    def fits(self, pod: PodInfo, node: NodeInfo) -> bool:
        """Whether no filter rejects the node."""
        names = names_of(pod)
        if node.node is None or (names is not None and node.name not in names):
            return False
        return all(f.filter(pod, node) is None for f in self._filters if f.applies(pod))

    def _fill(self, table: _Table) -> None:
        nodes = list(self._cluster.nodes.values())
        start = self._offset % len(nodes)
        # taken from the end: the list is turned round, so that the next table starts where this one's sample ends
        table.pending = nodes[:start][::-1] + nodes[start:][::-1]
        self._offset += sample_size(len(nodes))
        table.generation = self._cluster.generation

    def _refresh(self, table: _Table, pod: PodInfo) -> None:
        cluster = self._cluster
        if table.generation != cluster.generation:
            changed = cluster.changed_since(table.generation)
            if changed is None:
                table.marks.clear()
                table.heaps.clear()
                table.size = 0
                self._fill(table)
            else:
                for info in changed:
                    self._look(table, pod, info)
            table.generation = cluster.generation
        pending = table.pending
        if pending:
            wanted = sample_size(len(cluster.nodes))
            marks = table.marks
            while pending and len(marks) < wanted:
                info = pending.pop()
                if info.node is not None and info.name not in marks:
                    self._look(table, pod, info)

    def _look(self, table: _Table, pod: PodInfo, info: NodeInfo) -> None:
        name = info.name
        if info.node is None:
            table.marks.pop(name, None)
            return
        for check in table.filters:
            if check(pod, info) is not None:
                table.marks.pop(name, None)
                return
        if info.marked:
            for check in table.marked_filters:
                if check(pod, info) is not None:
                    table.marks.pop(name, None)
                    return
        total = 0
        for score, weight in table.scores:
            total -= weight * score(pod, info)
        values = table.level
        if values is None or info.preferred_taints:
            values = tuple([s.score(pod, info) for s in table.relative])
        generation = table.marks[name] = info.generation
        heap = table.heaps.get(values)
        if heap is None:
            heap = table.heaps[values] = []
        heapq.heappush(heap, (total, self._random(), generation, name))
        table.size += 1

    @staticmethod
    def _best(table: _Table) -> str | None:
        marks = table.marks
        if table.size > 4 * len(marks) + 64:
            _compact(table)
        tops = []
        for values, heap in list(table.heaps.items()):
            while heap and marks.get(heap[0][3]) != heap[0][2]:
                heapq.heappop(heap)
                table.size -= 1
            if heap:
                tops.append((values, heap[0]))
            else:
                del table.heaps[values]
        if not tops:
            return None
        if len(tops) == 1:
            return tops[0][1][3]
        highest = [max(values[at] for values, _ in tops) for at in range(len(table.relative))]
        best, chosen = (0, 0.0), ""
        for values, (total, tie, _, name) in tops:
            for plugin, value, top in zip(table.relative, values, highest, strict=True):
                share = value * 100 // top if top else 0
                total -= plugin.weight * (100 - share if plugin.normalize == "reverse" else share)
            if not chosen or (total, tie) < best:
                best, chosen = (total, tie), name
        return chosen

    def _decide_among(self, pod: PodInfo, names: frozenset[str]) -> Decision:
        nodes = self._cluster.nodes
        possible = [nodes[n] for n in names if n in nodes and self.fits(pod, nodes[n])]
        if not possible:
            return Decision(None, diagnose(pod, nodes.values(), self._filters, names))
        table = _Table(pod, self._filters, self._scores)
        for info in possible:
            self._look(table, pod, info)
        return Decision(self._best(table))


def diagnose(pod: PodInfo, nodes: Iterable[NodeInfo], filters: Iterable[Filter], names: frozenset[str] | None) -> Diagnosis:
    """Every node's reasons, counted, in upstream's words."""
    filters = tuple(f for f in filters if f.applies(pod))
    counts: dict[str, int] = {}
    plugins: set[str] = set()
    helpless = victims = total = 0
    for node in nodes:
        total += 1
        rejection = _first(pod, node, filters, names)
        if rejection is None:
            continue
        plugins.add(rejection.plugin)
        for reason in rejection.reasons:
            counts[reason] = counts.get(reason, 0) + 1
        if rejection.resolvable and not any(other.priority < pod.priority for other in node.pods.values()):
            victims += 1
        else:
            helpless += 1
    message = f"0/{total} nodes are available: {_histogram(counts)} no new claims to deallocate, preemption: "
    if pod.pod.spec.preemptionPolicy == "Never":
        return Diagnosis(message + "not eligible due to preemptionPolicy=Never.", frozenset(plugins))
    preemption = {}
    if helpless:
        preemption["Preemption is not helpful for scheduling"] = helpless
    if victims:
        preemption["No preemption victims found for incoming pod"] = victims
    return Diagnosis(message + f"0/{total} nodes are available: {_histogram(preemption)}", frozenset(plugins))


def _first(pod: PodInfo, node: NodeInfo, filters: Iterable[Filter], names: frozenset[str] | None) -> Rejection | None:
    if names is not None and node.name not in names:
        return Rejection(("node(s) didn't satisfy plugin(s) [NodeAffinity]",), False, "NodeAffinity")
    return next((r for f in filters if (r := f.filter(pod, node)) is not None), None)


def _compact(table: _Table) -> None:
    marks = table.marks
    for values, heap in table.heaps.items():
        table.heaps[values] = [entry for entry in heap if marks.get(entry[3]) == entry[2]]
        heapq.heapify(table.heaps[values])
    table.size = len(marks)


def _histogram(counts: dict[str, int]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items())) + "."
