"""Pod CIDRs: every node gets a range of its own out of the cluster CIDR, once, for as long as it lives.

Ranges: what the nodes hold in, the lowest free one out. The nodes themselves are the record: it is made of them, and follows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, Fresh
from minikube_py.meta.errors import NotFound
from minikube_py.types.core import Node

Network = IPv4Network | IPv6Network


class Ranges:
    """The ranges of one length that a cluster CIDR has, and who holds them. `reserved` (the service CIDR) is never given out."""

    def __init__(self, cluster: Network, mask: int, reserved: str = "") -> None:
        self._cluster, self._mask = cluster, mask
        self._size = 1 << (cluster.max_prefixlen - mask)
        self._count = 1 << (mask - cluster.prefixlen)
        self._holders: dict[int, int] = {}
        """By place, how many hold it: a range that somebody chose himself may be that of several."""
        self._held: dict[str, tuple[str, ...]] = {}
        self._lowest = 0
        """No place below it is free."""
        self.hold("", (reserved,))

    def hold(self, holder: str, cidrs: Sequence[str]) -> None:
        """From now on a holder has these ranges and no others. What is no range, or lies elsewhere, takes nothing away."""
        before = self._held.get(holder, ())
        if tuple(cidrs) == before:
            return
        for place in self._places(before):
            left = self._holders[place] - 1
            if left:
                self._holders[place] = left
            else:
                del self._holders[place]
                self._lowest = min(self._lowest, place)
        for place in self._places(cidrs):
            self._holders[place] = self._holders.get(place, 0) + 1
        if cidrs:
            self._held[holder] = tuple(cidrs)
        else:
            del self._held[holder]

    def lowest(self) -> str | None:
        """The lowest free range; None where all are taken."""
        while self._lowest < self._count and self._lowest in self._holders:
            self._lowest += 1
        if self._lowest == self._count:
            return None
        base = int(self._cluster.network_address)
        return f"{type(self._cluster.network_address)(base + self._lowest * self._size)}/{self._mask}"

    def _places(self, cidrs: Sequence[str]) -> Sequence[int]:
        base = int(self._cluster.network_address)
        places: list[int] = []
        for text in cidrs:
            try:
                network = ip_network(text, strict=False)
            except ValueError:
                continue
            if network.version == self._cluster.version and network.overlaps(self._cluster):
                first = max(0, (int(network.network_address) - base) // self._size)
                last = min(self._count - 1, (int(network.broadcast_address) - base) // self._size)
                places += range(first, last + 1)
        return places


class NodeIPAMController(Controller):
    """Hands out pod CIDRs. One worker: two nodes never race for a range."""

    name = "node-ipam"
    identity = "node-controller"
    component = "cidrAllocator"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes: Fresh[Node] = Fresh(context.informers.of(Node))
        self._ranges = Ranges(ip_network(self.options.cluster_cidr), self.options.node_cidr_mask_size, self.options.service_cidr)
        self._asked: dict[str, str] = {}
        """By node, the range that it was to get: held for it also when no answer came, since it may have been written."""
        self._nodes.informer.listen(self._on_change)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._nodes.informer),)

    async def reconcile(self, key: str) -> float | None:
        node = self._nodes.get(key)
        if node is None or node.spec.podCIDR or node.metadata.deletionTimestamp is not None:
            return None
        self._asked.pop(key, None)
        self._note(key)
        cidr = self._ranges.lowest()
        if cidr is None:
            self.events.record(node, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable")
            return 30.0
        self._asked[key] = cidr
        self._note(key)
        patch = {"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}
        try:
            self._nodes.wrote(await self.client.patch(Node, key, patch))
        except NotFound:
            self._asked.pop(key, None)
        self._note(key)
        return None

    def _on_change(self, old: Node | None, new: Node | None) -> None:
        node = new if new is not None else old
        if node is not None:
            # an own write counts from its acknowledgement on, whatever older states the informer has still to show
            self._note(node.key)

    def _note(self, key: str) -> None:
        node = self._nodes.get(key)
        if node is None or node.spec.podCIDR:
            self._asked.pop(key, None)
        held = (*node.spec.podCIDRs, node.spec.podCIDR, self._asked.get(key, "")) if node is not None else ()
        self._ranges.hold(key, tuple(dict.fromkeys(cidr for cidr in held if cidr)))
