"""The pod network as a component: prepares the machine once, then keeps the CNI configuration in step with the node's pod CIDR.

Until the Node has a pod CIDR there is no configuration, so containerd reports the network as not ready, the node stays NotReady, and no
pod gets an address that would be wrong a moment later. A bridge that an earlier cluster left with another range is removed: it would make
every sandbox fail.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from minikube_py.aio import Health
from minikube_py.control import Informer
from minikube_py.netfilter import Family, Netfilter
from minikube_py.netlink import MachineChanges
from minikube_py.network import links, vxlan
from minikube_py.network.cni import FILE_NAME, conflist
from minikube_py.network.rules import OWNER, pod_rules
from minikube_py.types.core import Node

log = logging.getLogger(__name__)

SYSTEM_CNI_CONF = Path("/etc/cni/net.d")  # where a containerd that is not the node's own looks


class NetworkOptions(NamedTuple):
    """Ranges and places of one node's network."""

    node_name: str
    cluster_cidr: str
    cni_conf: Path  # containerd's conf_dir
    ipam_dir: Path  # where addresses in use are remembered
    bridge: str = "cni0"
    mtu: Callable[[], int] = int
    """Gives the MTU of pods now; 0 leaves it to the kernel. Blocking."""


class PodNetwork:
    """One node's pod network, of one address family: `prepare` before the node starts, then `run` as a component."""

    def __init__(self, nodes: Informer[Node], netfilter: Netfilter, options: NetworkOptions, changes: MachineChanges | None = None) -> None:
        self._nodes, self._netfilter, self._options = nodes, netfilter, options
        if changes is not None:
            changes.listen(self._look)
        self._changed = asyncio.Event()
        self.pod_cidrs: tuple[str, ...] = ()
        self._mtu = 0

    async def prepare(self) -> None:
        """Forwarding on, pods let through and masqueraded, the rest of the pods' range unreachable. Raises NetfilterError, OSError."""
        ipv6 = self._netfilter.family is Family.IPV6
        problems = await asyncio.to_thread(links.set_sysctls, ipv6)
        if problems:
            log.warning("kernel settings for the pod network could not be made", extra={"settings": problems})
        await self._netfilter.apply(OWNER, pod_rules(self._options.cluster_cidr, ipv6))
        await asyncio.to_thread(links.reject_range, self._options.cluster_cidr)

    async def run(self, health: Health) -> None:
        """Follow the Node until cancelled."""
        self._nodes.listen(self._note)
        while True:
            await self._changed.wait()
            self._changed.clear()
            node = self._nodes.get(self._options.node_name)
            cidrs = (node.spec.podCIDRs or (node.spec.podCIDR,)) if node is not None and node.spec.podCIDR else ()
            if not cidrs:
                health.degraded("the node has no pod CIDR yet")
                continue
            await self.apply(cidrs)
            health.well()

    def _look(self) -> None:
        if self.pod_cidrs:
            self._changed.set()

    def _note(self, old: Node | None, new: Node | None) -> None:
        if new is not None and new.metadata.name == self._options.node_name:
            self._changed.set()

    async def apply(self, pod_cidrs: tuple[str, ...]) -> bool:
        """Write the configuration for these ranges; whether anything had to be written."""
        mtu = await asyncio.to_thread(self._options.mtu)
        if (pod_cidrs, mtu) == (self.pod_cidrs, self._mtu):
            return False
        written = await asyncio.to_thread(self._write, pod_cidrs, mtu)
        self.pod_cidrs, self._mtu = pod_cidrs, mtu
        if written:
            log.info("wrote the network's configuration", extra={"pod_cidrs": pod_cidrs})
        return written

    def _write(self, pod_cidrs: tuple[str, ...], mtu: int) -> bool:
        options = self._options
        present = links.address_of(options.bridge)
        if present is not None and not any(present in network for network in map(ipaddress.ip_network, pod_cidrs) if network.version == 4):
            log.warning("removing a bridge of another range", extra={"bridge": options.bridge, "address": str(present)})
            links.delete_link(options.bridge)
        text = conflist(pod_cidrs, options.ipam_dir, options.bridge, mtu)
        path = options.cni_conf / FILE_NAME
        if path.exists() and path.read_text() == text:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        options.ipam_dir.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)
        return True


async def teardown(netfilter: Netfilter, cni_conf: Path, ipam_dir: Path, bridge: str = "cni0") -> None:
    """Take away bridge, routes, configuration, addresses in use and all rules, the service proxy's too. Raises NetfilterError."""
    await netfilter.remove()
    chains = {name for _, name in (await netfilter.read()).chains}
    if not any(name.startswith("CNI-DN-") for name in chains) and any(name.startswith("CNI-HOSTPORT-") for name in chains):
        await netfilter.remove(("CNI-HOSTPORT-",))  # portmap leaves its frame behind; with nobody's port in it, it is nobody's

    def rest() -> None:
        (cni_conf / FILE_NAME).unlink(missing_ok=True)
        shutil.rmtree(ipam_dir, ignore_errors=True)
        links.delete_link(bridge)
        vxlan.remove()
        for cidr in links.rejected_ranges():
            links.allow_range(cidr)

    await asyncio.to_thread(rest)
