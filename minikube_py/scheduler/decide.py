"""The decision: a pod and the world in; a node out, or why there is none, and whose place the pod may take.

Pure but for the order of equals, which the given random source breaks. For pods that all plugins treat alike (one signature, the same
demands) the verdicts on nodes are kept in a table. The node on which room is kept for the pod is asked first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from minikube_py.scheduler import diagnose, preempt
from minikube_py.scheduler.bench import Bench, Demands, demands_of
from minikube_py.scheduler.diagnose import NO_NODES, Diagnosis
from minikube_py.scheduler.nodeinfo import Cluster, NodeInfo
from minikube_py.scheduler.plugins import Refusal, Rejection
from minikube_py.scheduler.plugins.node_affinity import CONFLICT, names_of
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.preempt import Preemption
from minikube_py.scheduler.profile import DEFAULT, Profile
from minikube_py.scheduler.table import Table, sample_size
from minikube_py.scheduler.world import World

_TABLES = 64


class Decision(NamedTuple):
    """A node; or why there is none, perhaps with the pods to remove so that there is one.

    `hopeless`: no room need be kept for the pod on any node any longer.
    """

    node: str | None
    diagnosis: Diagnosis | None = None
    preemption: Preemption | None = None
    hopeless: bool = False


class Decider:
    """Decides in one world for the pods of one profile."""

    def __init__(self, world: World | Cluster, random: Callable[[], float], profile: Profile = DEFAULT) -> None:
        self._world = world if isinstance(world, World) else World(world)
        self._cluster, self._random, self._profile = self._world.cluster, random, profile
        self._tables: OrderedDict[object, Table] = OrderedDict()
        self._offset = 0

    def decide(self, pod: PodInfo) -> Decision:
        """The best node for the pod."""
        cluster = self._cluster
        if not cluster.nodes:
            return Decision(None, NO_NODES, hopeless=True)
        names = names_of(pod)
        demands = demands_of(pod, self._profile, self._world) if names is None or names else CONFLICT
        if isinstance(demands, Refusal):
            return Decision(None, diagnose.refused(demands, len(cluster.nodes)))
        kept = cluster.nodes.get(cluster.nomination(pod.uid))
        if kept is not None and self._bench(pod, demands).fits(kept) is None:
            return Decision(kept.name)
        if names is not None:
            return self._decide_among(pod, demands, names)
        table = self._table(pod, demands)
        node = table.best(pod, self._offset)
        if node is not None:
            return Decision(node)
        if kept is not None:
            return self._give_up(pod, demands, None, kept)
        if table.diagnosed_at != cluster.generation or table.diagnosis is None:
            decision = self._give_up(pod, demands, None, None)
            if decision.preemption is not None:
                return decision
            table.diagnosis, table.diagnosed_at = decision.diagnosis, cluster.generation
        return Decision(None, table.diagnosis, hopeless=True)

    def helped(self, pod: PodInfo, nodes: Iterable[NodeInfo]) -> bool:
        """Whether the pod should be decided on anew now that these nodes changed: one is possible, or could be made so."""
        demands = demands_of(pod, self._profile, self._world)
        if isinstance(demands, Refusal):
            return False
        bench, names = self._bench(pod, demands), names_of(pod)
        for node in nodes:
            if node.node is None or (names is not None and node.name not in names):
                continue
            rejection = bench.fits(node)
            if rejection is None or (rejection.resolvable and self._may_make_room(pod, node)):
                return True
        return False

    def possible(self, pod: PodInfo) -> bool:
        """Whether any node is possible for the pod."""
        demands = demands_of(pod, self._profile, self._world)
        if isinstance(demands, Refusal) or not self._cluster.nodes:
            return False
        names = names_of(pod)
        if names is None:
            return self._table(pod, demands).best(pod, self._offset) is not None
        bench, nodes = self._bench(pod, demands), self._cluster.nodes
        return any(name in nodes and bench.fits(nodes[name]) is None for name in names)

    def _may_make_room(self, pod: PodInfo, node: NodeInfo) -> bool:
        if not self._profile.preempts or pod.pod.spec.preemptionPolicy == "Never" or self._cluster.nomination(pod.uid):
            return False
        return any(other.priority < pod.priority for other in node.pods.values())

    def _bench(self, pod: PodInfo, demands: Demands) -> Bench:
        return Bench(pod, self._profile, demands, self._world)

    def _table(self, pod: PodInfo, demands: Demands) -> Table:
        key = (pod.signature, tuple(demand.what for demand in demands))
        table = self._tables.get(key)
        if table is None:
            table = self._tables[key] = Table(pod, self._profile, demands, self._world, self._random)
            if len(self._tables) > _TABLES:
                self._tables.popitem(last=False)
            self._offset += sample_size(len(self._cluster.nodes))
        else:
            self._tables.move_to_end(key)
        return table

    def _decide_among(self, pod: PodInfo, demands: Demands, names: frozenset[str]) -> Decision:
        nodes, bench = self._cluster.nodes, self._bench(pod, demands)
        possible = [nodes[n] for n in names if n in nodes and bench.fits(nodes[n]) is None]
        if not possible:
            return self._give_up(pod, demands, names, nodes.get(self._cluster.nomination(pod.uid)))
        if len(possible) == 1:
            return Decision(possible[0].name)
        return Decision(Table(pod, self._profile, demands, self._world, self._random).best_of(pod, possible))

    def _give_up(self, pod: PodInfo, demands: Demands, names: frozenset[str] | None, kept: NodeInfo | None) -> Decision:
        nodes = self._cluster.nodes
        total = len(nodes)
        bench = self._bench(pod, demands)
        found = diagnose.rejections(bench, nodes.values(), names)
        if not self._profile.preempts:
            return Decision(None, diagnose.rejected(found, total, ""), hopeless=True)
        excuse = preempt.excuse(pod, kept, found.get(kept.name) if kept is not None else None)
        if excuse:
            return Decision(None, diagnose.rejected(found, total, excuse))
        result = self._search(bench, found)
        if result.best is not None:
            return Decision(None, diagnose.rejected(found, total, ""), result.best)
        unseen = total - sum(1 for rejection in found.values() if rejection.resolvable)
        reasons = {**result.reasons, **({preempt.NOT_HELPFUL: unseen} if unseen else {})}
        return Decision(None, diagnose.rejected(found, total, diagnose.unhelpful(reasons, total)), hopeless=True)

    def _search(self, bench: Bench, found: dict[str, Rejection]) -> preempt.Search:
        nodes = [self._cluster.nodes[name] for name, rejection in found.items() if rejection.resolvable]
        if not nodes:
            return preempt.Search(None, {})
        return preempt.search(bench, nodes, self._world.objects.budgets.values(), self._random)
