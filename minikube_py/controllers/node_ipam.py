"""Pod CIDRs: every node gets a range of its own out of the cluster CIDR, once, for as long as it lives.

plan(): the ranges that nodes hold → the lowest free one. The nodes themselves are the record: nothing is kept but them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, Fresh
from minikube_py.meta.errors import NotFound
from minikube_py.types.core import Node

Network = IPv4Network | IPv6Network


def plan(cluster: Network, mask: int, taken: Iterable[str], reserved: str = "") -> str | None:
    """The lowest free range of the cluster CIDR; None where all are taken. `reserved` (the service CIDR) is never given out."""
    size = 1 << (cluster.max_prefixlen - mask)
    base = int(cluster.network_address)
    end = base + cluster.num_addresses
    blocked: set[int] = set()
    count = 1 << (mask - cluster.prefixlen)
    for text in (*taken, reserved):
        held = _held(text)
        if held is None or held[0] != cluster.version or held[1] >= end or held[2] < base:
            continue
        first = max(0, (held[1] - base) // size)
        last = min(count - 1, (held[2] - base) // size)
        blocked.update(range(first, last + 1))
    for index in range(count):
        if index not in blocked:
            return f"{type(cluster.network_address)(base + index * size)}/{mask}"
    return None


@lru_cache(maxsize=8192)
def _held(text: str) -> tuple[int, int, int] | None:
    """(IP version, first address, last address) of a range; None for what is none. Every node's is asked for again for every new node."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    return network.version, int(network.network_address), int(network.broadcast_address)


class NodeIPAMController(Controller):
    """Hands out pod CIDRs. One worker: two nodes never race for a range."""

    name = "node-ipam"
    identity = "node-controller"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes: Fresh[Node] = Fresh(context.informers.of(Node))
        self._cluster = ip_network(self.options.cluster_cidr)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._nodes.informer),)

    async def reconcile(self, key: str) -> float | None:
        node = self._nodes.get(key)
        if node is None or node.spec.podCIDR or node.metadata.deletionTimestamp is not None:
            return None
        taken = [cidr for other in self._nodes.list() for cidr in (other.spec.podCIDRs or (other.spec.podCIDR,)) if cidr]
        cidr = plan(self._cluster, self.options.node_cidr_mask_size, taken, self.options.service_cidr)
        if cidr is None:
            self.events.record(node, "Normal", "CIDRNotAvailable", f"Node {key} status is now: CIDRNotAvailable")
            return 30.0
        patch = {"metadata": {"uid": node.metadata.uid}, "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}}
        try:
            self._nodes.wrote(await self.client.patch(Node, key, patch))
        except NotFound:
            return None
        return None
