"""The composition of one node: tables and network first, then containerd, the kubelet, the service proxy and DNS.

What goes to the service range is rejected before anything else starts. The node speaks to the API only through clients, so that it is the
same in the server's process and in an agent's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from minikube_py import machine
from minikube_py.aio import Backoff, Health, Supervisor, well
from minikube_py.client import Client
from minikube_py.config import NodeConfig
from minikube_py.control import Informers
from minikube_py.cri import errors as cri_errors
from minikube_py.cri.client import CriClient
from minikube_py.cri.containerd import Containerd, ContainerdOptions
from minikube_py.cri.host import HostFacts
from minikube_py.cri.images import PINNED, import_archive
from minikube_py.kubelet.cgroups import find as find_cgroups
from minikube_py.kubelet.kubelet import Kubelet
from minikube_py.kubelet.options import KubeletOptions
from minikube_py.meta import names
from minikube_py.meta.clustersettings import ClusterSettings
from minikube_py.meta.version import KUBERNETES_VERSION
from minikube_py.netfilter import Family, Netfilter, NetfilterError, detect
from minikube_py.netfilter.variant import NoIptables
from minikube_py.netlink import MachineChanges
from minikube_py.network import NetworkOptions, Overlay, OverlayOptions, PodNetwork, links
from minikube_py.network.node import SYSTEM_CNI_CONF
from minikube_py.network.overlay import pod_mtu
from minikube_py.nodesettings import NodeSettings
from minikube_py.proxy import Proxier, ProxyOptions
from minikube_py.types.core import Node as NodeView
from minikube_py.types.core import Taint

log = logging.getLogger(__name__)

_RUNTIME_SECONDS = 30.0


class NodeStartError(Exception):
    """The node cannot start; the message says why and what to do."""


class NodeOptions(NamedTuple):
    """What a node must know; `taints` as (key, value, effect)."""

    data_dir: Path
    name: str
    ip: str
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]
    cluster_cidr: str
    service_cidr: str
    cluster_dns: str
    cluster_domain: str
    runtime_endpoint: str = ""
    disable: frozenset[str] = frozenset()
    cgroup_root: str = ""
    overlay: str = "none"
    follow_address: bool = False
    """Whether the node goes by another address when the machine has the first one no more."""
    storage_dir: Path | None = None
    lease_duration: int = 40
    settings: NodeSettings = NodeSettings()

    @classmethod
    def of(cls, config: NodeConfig, cluster: ClusterSettings, name: str, ip: str) -> NodeOptions:
        """What this machine was told, and what the cluster decides for its nodes."""
        return cls(
            data_dir=config.data_dir / "agent",
            name=name,
            ip=ip,
            labels=config.node_label,
            taints=tuple((taint.key, taint.value, taint.effect) for taint in config.node_taint),
            cluster_cidr=cluster.cluster_cidr,
            service_cidr=cluster.service_cidr,
            cluster_dns=cluster.cluster_dns,
            cluster_domain=cluster.cluster_domain,
            runtime_endpoint=config.container_runtime_endpoint,
            disable=cluster.disabled,
            cgroup_root=config.cgroup_root,
            overlay=cluster.overlay,
            follow_address=config.node_ip is None,
            storage_dir=config.default_local_storage_path,
            lease_duration=int(cluster.node_lease_duration),
            settings=config.node_settings,
        )


class Node:
    """One node of the cluster. `client_for` gives a client by user name and user agent, for the proxy and DNS; `readdressed` hears of
    another address before anybody else does."""

    def __init__(
        self,
        options: NodeOptions,
        client: Client,
        client_for: Callable[..., Client],
        kubelet_tls: ssl.SSLContext,
        readdressed: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._options, self._client, self._client_for, self._tls = options, client, client_for, kubelet_tls
        self._readdressed, self._ip = readdressed, options.ip
        self._facts: HostFacts | None = None
        self._systemd_cgroups = False
        self._kubelet: Kubelet | None = None

    async def start(self, supervisor: Supervisor, stack: AsyncExitStack) -> None:
        """Start the node's components; returns when they run, not when the node is Ready. Raises NodeStartError."""
        options = self._options
        _check(options)
        informers = Informers(self._client_for("system:kube-proxy", agent="kube-proxy"))
        stack.push_async_callback(informers.close)
        try:
            variant = await detect()
            netfilter = Netfilter(Family.IPV6 if ":" in options.ip else Family.IPV4, variant)
            proxier = Proxier(
                informers, netfilter, ProxyOptions(options.name, options.service_cidr, options.cluster_cidr, node_ip=options.ip)
            )
            await proxier.guard(adopt="proxy" not in options.disable)
            changes = MachineChanges()
            network = PodNetwork(
                informers.of(NodeView),
                netfilter,
                NetworkOptions(
                    options.name,
                    options.cluster_cidr,
                    cni_conf=SYSTEM_CNI_CONF if options.runtime_endpoint else options.data_dir / "etc" / "cni" / "net.d",
                    ipam_dir=options.data_dir / "cni",
                    mtu=lambda: pod_mtu(options.overlay, links.mtu_by_address(self._ip), self._ip),
                ),
                changes,
            )
            await network.prepare()
        except (NoIptables, NetfilterError, OSError) as error:
            raise NodeStartError(str(error)) from error
        supervisor.start("network", network.run)
        supervisor.start("overlay", Overlay(informers.of(NodeView), OverlayOptions(options.name, options.overlay), changes).run)
        supervisor.start("machine changes", well(changes.run))
        if "proxy" not in options.disable:
            supervisor.start("proxy", proxier.run)
        if "dns" not in options.disable:
            from minikube_py.dns import ClusterDns, DnsOptions

            supervisor.start("dns", ClusterDns(informers, DnsOptions(options.cluster_dns, options.cluster_domain)).run)
        cri = await self._runtime(supervisor, variant.value)
        stack.push_async_callback(cri.close)
        kubelet = Kubelet(self._client, cri, self._kubelet_options(), server_tls=self._tls)
        stack.push_async_callback(kubelet.close)
        self._kubelet = kubelet
        for name, component in kubelet.components():
            supervisor.start(name, component)
        if options.follow_address:
            supervisor.start("node address", lambda health: self._follow_address(health, changes, kubelet, proxier))

    async def _follow_address(self, health: Health, changes: MachineChanges, kubelet: Kubelet, proxier: Proxier) -> None:
        """An address stays the node's for as long as the machine has it; then another is announced, and nothing is started again."""
        changed = asyncio.Event()
        changes.listen(changed.set)
        pods = ipaddress.ip_network(self._options.cluster_cidr)
        while True:
            changed.clear()
            if machine.has_address(self._ip):
                health.well()
            else:
                try:
                    fresh = await asyncio.to_thread(machine.node_address)
                except machine.NoAddress:
                    fresh = ""
                if not fresh or ipaddress.ip_address(fresh) in pods:
                    health.degraded(f"the machine has the address {self._ip} no more, and no other yet")
                else:
                    log.warning("the node goes by another address from now on", extra={"address": fresh, "before": self._ip})
                    self._ip = fresh
                    if self._readdressed is not None:
                        await self._readdressed(fresh)
                    proxier.readdress(fresh)
                    kubelet.readdress((fresh,))
                    continue
            await changed.wait()

    async def shut_down(self) -> None:
        """End all pods, since the machine goes down; returns when they have ended or their time is over."""
        if self._kubelet is not None:
            await self._kubelet.shutdown.begin()

    async def _runtime(self, supervisor: Supervisor, iptables: str) -> CriClient:
        """The client of the user's runtime, or of a containerd of the node's own."""
        options = self._options
        if options.runtime_endpoint:
            socket = Path(options.runtime_endpoint.removeprefix("unix://"))
            if not socket.is_socket():
                raise NodeStartError(f"--container-runtime-endpoint: {socket} is not a socket; is containerd running?")
            cri = CriClient(socket)
            try:
                self._systemd_cgroups = await _cgroup_driver(cri, options.cgroup_root)
            except (NodeStartError, cri_errors.CriError) as error:
                await cri.close()
                raise NodeStartError(f"--container-runtime-endpoint: {error}") from error
            return cri
        containerd = Containerd(ContainerdOptions(data_dir=options.data_dir, iptables=iptables))
        try:
            await containerd.start()
        except cri_errors.CriError as error:
            raise NodeStartError(str(error)) from error
        supervisor.start("containerd", containerd.run)
        self._facts = containerd.facts
        cri = CriClient(containerd.socket)
        supervisor.start("image archives", lambda health: self._import_archives(health, cri))
        return cri

    async def _import_archives(self, health: Health, cri: CriClient) -> None:
        """Import the image archives that lie in <data-dir>/agent/images: how a machine without a registry gets its images."""
        directory = self._options.data_dir / "images"
        for archive in sorted(await asyncio.to_thread(lambda: list(directory.glob("*.tar*")))):
            try:
                images = await self._import_archive(cri, archive)
            except (cri_errors.CriError, OSError) as error:
                log.error("image archive not imported", extra={"archive": str(archive), "error": str(error)})
                continue
            log.info("imported an image archive", extra={"archive": archive.name, "images": images})
        health.well()
        await asyncio.Event().wait()

    async def _import_archive(self, cri: CriClient, archive: Path) -> tuple[str, ...]:
        """Import one, however often the runtime goes away meanwhile."""
        backoff = Backoff(first=0.2, limit=10.0)
        while True:
            try:
                return await import_archive(cri, archive, labels=PINNED)
            except (cri_errors.Unavailable, cri_errors.DeadlineExceeded) as error:
                log.warning("image archive not imported yet", extra={"archive": str(archive), "error": str(error)})
            await asyncio.sleep(backoff.next())

    def _kubelet_options(self) -> KubeletOptions:
        options = self._options
        return KubeletOptions(
            node_name=options.name,
            node_ips=(options.ip,),
            root_dir=options.data_dir / "kubelet",
            storage_dir=options.storage_dir or options.data_dir / "storage",
            static_pod_path=options.data_dir / "manifests",
            cluster_domain=options.cluster_domain,
            cluster_dns=() if "dns" in options.disable else (options.cluster_dns,),
            cgroup_root=options.cgroup_root,
            systemd_cgroups=self._systemd_cgroups,
            node_lease_duration_seconds=options.lease_duration,
            settings=options.settings,
            node_labels=options.labels,
            register_with_taints=tuple(Taint(key=key, value=value, effect=effect) for key, value, effect in options.taints),
            version=KUBERNETES_VERSION,
            restrict_oom_score_adj=self._facts is not None and self._facts.restrict_oom_score_adj,
        )


async def _cgroup_driver(cri: CriClient, cgroup_root: str) -> bool:
    """Whether the user's runtime has systemd make its cgroups. Raises CriError, NodeStartError where the node cannot follow it."""
    await cri.wait_until_serving(_RUNTIME_SECONDS)
    if not await cri.systemd_cgroups():
        return False
    if find_cgroups().unified is None:
        raise NodeStartError("its cgroup driver is systemd (SystemdCgroup = true), which takes a machine with cgroup v2")
    if cgroup_root.strip("/"):
        raise NodeStartError("its cgroup driver is systemd (SystemdCgroup = true), and --cgroup-root is for the other one")
    log.info("the runtime's cgroup driver is systemd: pods get slices of systemd's")
    return True


def _check(options: NodeOptions) -> None:
    """What the API server would refuse, again and again, when the node registers. Raises NodeStartError."""
    if names.dns1123_subdomain(options.name):
        raise NodeStartError(f"--node-name {options.name}: a node's name consists of lower-case letters, digits, '-' and '.'")
    if not machine.has_address(options.ip):
        raise NodeStartError(f"--node-ip {options.ip} is none of this machine's addresses")
    labels = (("--node-label", key, value) for key, value in options.labels.items())
    taints = (("--node-taint", key, value) for key, value, _ in options.taints)
    for flag, key, value in (*labels, *taints):
        if faults := [*names.label_key(key), *names.label_value(value)]:
            raise NodeStartError(f"{flag} {key}={value}: {faults[0]}")
