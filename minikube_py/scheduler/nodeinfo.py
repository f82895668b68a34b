"""The scheduler's picture of the nodes: what each offers, what is taken of it, kept up to date pod by pod.

What always holds: a pod is counted on one node at most, whether the API says so or the scheduler has just decided it (assumed); every
change of a node raises `generation`, so that results computed for it can be told to be stale. A pod that is only nominated to a node (room
is being made for it there) is not counted, but known.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from minikube_py.scheduler.groups import Kind, Use
from minikube_py.scheduler.podinfo import CPU, MEMORY, STORAGE, HostPort, PodInfo, amounts
from minikube_py.types.core import Node, Taint

T = TypeVar("T", bound=Hashable)
_KNOWN = frozenset({CPU, MEMORY, STORAGE, "pods"})


class Image:
    """An image that nodes have: its size in bytes, and on how many of the cluster's nodes it is."""

    __slots__ = ("fleet", "nodes", "size")

    def __init__(self, fleet: Mapping[str, object], size: int) -> None:
        self.fleet, self.size, self.nodes = fleet, size, 0

    @property
    def weight(self) -> int:
        """Its size, less where few nodes have it: a node must not draw all pods of an image that it alone has."""
        return int(self.size * (self.nodes / len(self.fleet))) if self.fleet else 0


class NodeInfo:
    """One node."""

    __slots__ = (
        "allocatable_cpu",
        "allocatable_extended",
        "allocatable_memory",
        "allocatable_pods",
        "allocatable_storage",
        "blocking_taints",
        "claims",
        "counted_cpu",
        "counted_memory",
        "extended",
        "generation",
        "images",
        "kinds",
        "labels",
        "marked",
        "name",
        "node",
        "nominated",
        "pods",
        "ports",
        "preferred_taints",
        "requested_cpu",
        "requested_memory",
        "requested_storage",
        "unschedulable",
        "uses",
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
        self.kinds: dict[Kind, int] = {}
        self.uses: dict[Use, int] = {}
        self.claims: dict[str, int] = {}
        self.images: dict[str, Image] = {}
        self.nominated: dict[str, PodInfo] = {}
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

    def relabel(self, info: PodInfo) -> None:
        """A counted pod has other labels, or is on its way out; it takes what it took."""
        _tick(self.kinds, self.pods[info.uid].kind, -1)
        _tick(self.kinds, info.kind, 1)
        self.pods[info.uid] = info

    def copy(self) -> NodeInfo:
        """A node like this one, to try something on."""
        made = NodeInfo(self.name)
        for name in NodeInfo.__slots__:
            value = getattr(self, name)
            setattr(made, name, value.copy() if type(value) is dict else value)
        return made

    def _count(self, info: PodInfo, sign: int) -> None:
        self.requested_cpu += sign * info.cpu
        self.requested_memory += sign * info.memory
        self.requested_storage += sign * info.storage
        self.counted_cpu += sign * info.counted_cpu
        self.counted_memory += sign * info.counted_memory
        for resource, value in info.extended:
            self.extended[resource] = self.extended.get(resource, 0) + sign * value
        _tick(self.kinds, info.kind, sign)
        for port in info.ports:
            _tick(self.ports, port, sign)
        for use in info.uses:
            _tick(self.uses, use, sign)
        for claim in info.claims:
            _tick(self.claims, claim, sign)


def _tick(counts: dict[T, int], key: T, sign: int) -> None:
    count = counts.get(key, 0) + sign
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)


class Cluster:
    """All nodes and the pods on them, assumed ones among them."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._known: dict[str, NodeInfo] = {}
        self._where: dict[str, str] = {}
        self._generation = 0
        self._log: list[NodeInfo] = []
        """Nodes in the order of their last changes; entries superseded by a later one are skipped."""
        self._images: dict[str, Image] = {}
        self._nominations: dict[str, str] = {}
        self.uses: dict[Use, int] = {}
        """How many placed pods use a term."""
        self.uses_version = 0
        """Goes up when `uses` gets or loses a key."""

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
        info.set_node(node)
        self._show_images(info, node)
        self._touch(info)
        return info

    def remove_node(self, name: str) -> None:
        """A node went; the pods on it stay counted until they go too."""
        info = self._known.pop(name, None)
        if info is not None:
            info.node = None
            self._show_images(info, None)
            self._touch(info)
            self._drop_if_empty(info)

    def _drop_if_empty(self, info: NodeInfo) -> None:
        if info.node is None and not info.pods and not info.nominated:
            self._nodes.pop(info.name, None)

    def _show_images(self, info: NodeInfo, node: Node | None) -> None:
        for name, image in info.images.items():
            image.nodes -= 1
            if not image.nodes:
                del self._images[name]
        info.images = {}
        for shown in node.status.images if node is not None else ():
            for name in shown.names:
                if name in info.images:
                    continue
                if name not in self._images:
                    self._images[name] = Image(self._known, shown.sizeBytes)
                image = info.images[name] = self._images[name]
                image.nodes += 1

    def place(self, info: PodInfo, node: str) -> None:
        """Count a pod on a node, as decided or as the API says; it leaves the node where it was counted before."""
        current = self._where.get(info.uid)
        if current is not None:
            there = self._nodes[current]
            counted = there.pods[info.uid]
            if current == node and (counted.signature, counted.kind, counted.uses) == (info.signature, info.kind, info.uses):
                there.pods[info.uid] = info
                return
            self.forget(info.uid)
        self.withdraw(info.uid)
        target = self._of(node)
        target.add(info)
        self._where[info.uid] = node
        self._use(info, 1)
        self._touch(target)

    def relabel(self, info: PodInfo) -> None:
        """A counted pod has other labels, or is on its way out; it takes what it took, where it is."""
        node = self._nodes[self._where[info.uid]]
        node.relabel(info)
        self._touch(node)

    def forget(self, uid: str) -> NodeInfo | None:
        """Count a pod no more; gives the node that it was counted on."""
        name = self._where.pop(uid, None)
        if name is None:
            return None
        info = self._nodes[name]
        self._use(info.pods[uid], -1)
        info.remove(uid)
        self._touch(info)
        self._drop_if_empty(info)
        return info

    def _use(self, info: PodInfo, sign: int) -> None:
        for use in info.uses:
            known = use in self.uses
            _tick(self.uses, use, sign)
            if (use in self.uses) is not known:
                self.uses_version += 1

    def counted(self, uid: str) -> PodInfo | None:
        """A pod as it is counted; None for one that is on no node. Its `pod` may be replaced by a view that counts the same."""
        name = self._where.get(uid)
        return self._nodes[name].pods[uid] if name is not None else None

    def nominate(self, info: PodInfo, node: str) -> NodeInfo | None:
        """Keep room on a node for a pod that waits for it. Gives the node where room was kept for it before."""
        before = self.withdraw(info.uid)
        self._nominations[info.uid] = node
        target = self._of(node)
        target.nominated[info.uid] = info
        self._touch(target)
        return before

    def withdraw(self, uid: str) -> NodeInfo | None:
        """Keep no more room for a pod. Gives the node where it was kept."""
        before = self._nodes.get(self._nominations.pop(uid, ""))
        if before is None:
            return None
        before.nominated.pop(uid, None)
        self._touch(before)
        self._drop_if_empty(before)
        return before

    def nomination(self, uid: str) -> str:
        """The node on which room is kept for a pod; "" for none."""
        return self._nominations.get(uid, "")

    def node_of(self, uid: str) -> str | None:
        """The node on which a pod is counted."""
        return self._where.get(uid)
