"""The scheduler's picture of the nodes: what each offers, what is taken of it, kept up to date pod by pod.

What always holds: a pod is counted on one node at most, whether the API says so or the scheduler has just decided it (assumed); every
change of a node raises `generation`, so that results computed for it can be told to be stale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from minikube_py.scheduler.podinfo import CPU, MEMORY, STORAGE, HostPort, PodInfo, amounts
from minikube_py.types.core import Node, Taint

_KNOWN = frozenset({CPU, MEMORY, STORAGE, "pods"})


class NodeInfo:
    """One node."""

    __slots__ = (
        "allocatable_cpu",
        "allocatable_extended",
        "allocatable_memory",
        "allocatable_pods",
        "allocatable_storage",
        "blocking_taints",
        "counted_cpu",
        "counted_memory",
        "extended",
        "generation",
        "labels",
        "marked",
        "name",
        "node",
        "pods",
        "ports",
        "preferred_taints",
        "requested_cpu",
        "requested_memory",
        "requested_storage",
        "unschedulable",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.node: Node | None = None
        self.generation = 0
        self.pods: dict[str, PodInfo] = {}
        self.requested_cpu = self.requested_memory = self.requested_storage = 0
        self.counted_cpu = self.counted_memory = 0
        self.extended: dict[str, int] = {}
        self.ports: dict[HostPort, int] = {}
        self.allocatable_cpu = self.allocatable_memory = self.allocatable_storage = self.allocatable_pods = 0
        self.allocatable_extended: dict[str, int] = {}
        self.labels: Mapping[str, str] = {}
        self.blocking_taints: tuple[Taint, ...] = ()
        self.preferred_taints: tuple[Taint, ...] = ()
        self.unschedulable = False
        self.marked = False  # cordoned, or with a taint that keeps pods away

    def set_node(self, node: Node) -> None:
        """Take over what the node offers."""
        self.node = node
        offers = amounts(node.status.allocatable)
        self.allocatable_cpu = offers.get(CPU, 0)
        self.allocatable_memory = offers.get(MEMORY, 0)
        self.allocatable_storage = offers.get(STORAGE, 0)
        self.allocatable_pods = offers.get("pods", 0)
        self.allocatable_extended = {k: v for k, v in offers.items() if k not in _KNOWN}
        self.labels = node.metadata.labels
        self.blocking_taints = tuple(t for t in node.spec.taints if t.effect in ("NoSchedule", "NoExecute"))
        self.preferred_taints = tuple(t for t in node.spec.taints if t.effect == "PreferNoSchedule")
        self.unschedulable = node.spec.unschedulable
        self.marked = self.unschedulable or bool(self.blocking_taints)

    def add(self, info: PodInfo) -> None:
        """Count a pod."""
        self.pods[info.uid] = info
        self._count(info, 1)

    def remove(self, uid: str) -> None:
        """Count a pod no more."""
        info = self.pods.pop(uid, None)
        if info is not None:
            self._count(info, -1)

    def _count(self, info: PodInfo, sign: int) -> None:
        self.requested_cpu += sign * info.cpu
        self.requested_memory += sign * info.memory
        self.requested_storage += sign * info.storage
        self.counted_cpu += sign * info.counted_cpu
        self.counted_memory += sign * info.counted_memory
        for resource, value in info.extended:
            self.extended[resource] = self.extended.get(resource, 0) + sign * value
        for port in info.ports:
            count = self.ports.get(port, 0) + sign
            if count:
                self.ports[port] = count
            else:
                self.ports.pop(port, None)


class Cluster:
    """All nodes and the pods on them, assumed ones among them."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._known: dict[str, NodeInfo] = {}
        self._where: dict[str, str] = {}
        self._generation = 0
        self._log: list[NodeInfo] = []
        """Nodes in the order of their last changes; entries superseded by a later one are skipped."""
        self.layout = 0
        """Goes up when nodes come or go."""

    @property
    def nodes(self) -> dict[str, NodeInfo]:
        """The nodes that exist, by name."""
        return self._known

    @property
    def generation(self) -> int:
        """The generation of the latest change."""
        return self._generation

    def changed_since(self, generation: int) -> Iterable[NodeInfo] | None:
        """The existing nodes that changed after a generation; None where that is not known (any more)."""
        first = self._generation - len(self._log)
        if generation < first:
            return None
        return (info for at, info in enumerate(self._log[generation - first :], generation + 1) if info.generation == at)

    def _touch(self, info: NodeInfo) -> None:
        self._generation += 1
        info.generation = self._generation
        self._log.append(info)
        if len(self._log) > 20_000:
            del self._log[:10_000]

    def _of(self, name: str) -> NodeInfo:
        info = self._nodes.get(name)
        if info is None:
            info = self._nodes[name] = NodeInfo(name)
        return info

    def set_node(self, node: Node) -> NodeInfo:
        """A node came or changed."""
        info = self._of(node.metadata.name)
        if info.node is None:
            self._known[info.name] = info
            self.layout += 1
        info.set_node(node)
        self._touch(info)
        return info

    def remove_node(self, name: str) -> None:
        """A node went; the pods on it stay counted until they go too."""
        info = self._known.pop(name, None)
        if info is not None:
            info.node = None
            self.layout += 1
            self._touch(info)
            if not info.pods:
                del self._nodes[name]

    def place(self, info: PodInfo, node: str) -> None:
        """Count a pod on a node, as decided or as the API says; it leaves the node where it was counted before."""
        current = self._where.get(info.uid)
        if current is not None:
            there = self._nodes[current]
            if current == node and there.pods[info.uid].signature == info.signature:
                there.pods[info.uid] = info
                return
            self.forget(info.uid)
        target = self._of(node)
        target.add(info)
        self._where[info.uid] = node
        self._touch(target)

    def forget(self, uid: str) -> NodeInfo | None:
        """Count a pod no more; gives the node that it was counted on."""
        name = self._where.pop(uid, None)
        if name is None:
            return None
        info = self._nodes[name]
        info.remove(uid)
        self._touch(info)
        if info.node is None and not info.pods:
            del self._nodes[name]
        return info

    def node_of(self, uid: str) -> str | None:
        """The node on which a pod is counted."""
        return self._where.get(uid)
