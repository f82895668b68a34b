"""The node agent put together: informers, workers, node status, lease, endpoint. Nothing here decides anything.

`components()` are the coroutines that a supervisor runs; each can fail and be started again without the others. Ending them leaves every
container as it is: the next agent adopts what runs.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec.structs import replace

from minikube_py import tunnel
from minikube_py.aio import Clock, Component, Health, SystemClock
from minikube_py.client import Client
from minikube_py.control import EventRecorder, Informer
from minikube_py.cri.client import CriClient
from minikube_py.cri.imagefs import ImageFilesystems
from minikube_py.kubelet import cgroups, machine, resources, shutdown
from minikube_py.kubelet.admission import Host
from minikube_py.kubelet.allocation import Allocations
from minikube_py.kubelet.collector import Collector
from minikube_py.kubelet.containers import Node as NodeFacts
from minikube_py.kubelet.evictor import Evictor
from minikube_py.kubelet.handlers import Handlers
from minikube_py.kubelet.images import Images
from minikube_py.kubelet.logrotation import LogRotation
from minikube_py.kubelet.measure import Measure
from minikube_py.kubelet.metrics import Metrics
from minikube_py.kubelet.nodeagent import NodeAgent
from minikube_py.kubelet.objects import ReferencedObjects
from minikube_py.kubelet.options import KubeletOptions
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.probes import Probes
from minikube_py.kubelet.pullrecords import PullRecords
from minikube_py.kubelet.runtime import Observer
from minikube_py.kubelet.runtimeclasses import RuntimeClasses
from minikube_py.kubelet.shutdown import Shutdown
from minikube_py.kubelet.slices import Slices
from minikube_py.kubelet.staticpods import StaticPods
from minikube_py.kubelet.tokens import Tokens
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.volumes.claims import Claims
from minikube_py.types.core import ConfigMap, Node, Secret
from minikube_py.types.meta import ObjectMeta
from minikube_py.types.network import Service
from minikube_py.types.pod import Pod


class Kubelet:
    """One node's agent. `client` speaks as system:node:<name>; `cri` reaches the runtime; both stay the caller's to close.

    Without `server_tls` the HTTPS endpoint is not served (logs and exec are then out of reach); with it, its clients are those whose
    certificates the context's authorities have issued, and bearers of tokens. `connect` reaches the runtime's streaming server, where that
    is in another network namespace than this process.
    """

    def __init__(
        self,
        client: Client,
        cri: CriClient,
        options: KubeletOptions,
        *,
        server_tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
        connect: tunnel.Connect | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.options = options
        self._server_tls, self._connect = server_tls, connect or tunnel.connector()
        self._pod_informer = Informer(client, Pod, field_selector=f"spec.nodeName={options.node_name}")
        self._services = Informer(client, Service)
        self.pods = Pods(self._pod_informer, self._services)
        self._static: StaticPods | None = None
        if options.static_pod_path is not None:
            self._static = StaticPods(client, options.static_pod_path, options.node_name, clock, self.pods.static_changed)
        self._events = EventRecorder(client, "kubelet", options.node_name, clock)
        self._handlers = Handlers(cri, f"kube-probe/{'.'.join(options.version.lstrip('v').split('.')[:2])}")
        metrics = Metrics()
        probes = Probes(self._handlers, self._events, self.pods.wake, metrics)
        settings, facts = options.settings, machine.facts(options.root_dir)
        hierarchies = cgroups.find()
        self.tools = Tools(
            options=options,
            client=client,
            cri=cri,
            clock=clock,
            events=self._events,
            observer=Observer(cri),
            runtime_classes=RuntimeClasses(client),
            image_filesystems=ImageFilesystems(cri),
            images=Images(
                cri,
                clock,
                PullRecords(options.root_dir / "image_manager", settings.image_credential_verification),
                settings.max_parallel_image_pulls,
            ),
            handlers=self._handlers,
            probes=probes,
            cgroups=(Slices if options.systemd_cgroups else cgroups.Cgroups)(hierarchies, options.cgroup_root, settings.pod_max_pids),
            allocations=Allocations(options.pod_dir, self._events, clock, self.pods.active, self._host, self.pods.wake),
            tokens=Tokens(client, clock),
            claims=Claims(client, options.node_name),
            config_maps=ReferencedObjects(client, ConfigMap, self.pods.retry),
            secrets=ReferencedObjects(client, Secret, self.pods.retry),
            services=self._services,
            node=NodeFacts(
                memory_capacity=facts.memory,
                seccomp_root=str(options.root_dir / "seccomp"),
                cgroup_v2=hierarchies.unified is not None,
                swap_limits=cgroups.has_swap_limits(hierarchies),
                hugepage_sizes=machine.hugepage_sizes(facts) if cgroups.has_hugepage_limits(hierarchies) else (),
                restrict_oom_score_adj=options.restrict_oom_score_adj,
            ),
            pod_by_uid=self.pods.by_uid,
            is_blocked=self.pods.is_blocked,
            mirror_of=self._static.mirror if self._static is not None else lambda _: None,
            allocatable=machine.allocatable(facts, options),
            metrics=metrics,
        )
        self._allocatable, self._enforced = self.tools.allocatable, machine.enforced(facts, options)
        self.pods.bind(self.tools, self._static)
        self.node = NodeAgent(client, cri, options, self._events, facts, clock)
        measure = Measure(cri, self.tools.cgroups, options)
        self.collector = Collector(self.tools, self.pods, measure, lambda: self.node.node)
        self.evictor = Evictor(self.tools, self.pods, measure, self.collector.reclaim, lambda: self.node.node, self._pressure_changed)
        self.shutdown = Shutdown(self.tools, self.pods, lambda: self.node.node, self._shutting_down)
        allocations = self.tools.allocations
        allocations.handlers = (self.shutdown.admit, self.evictor.admit, *allocations.handlers)

    def _host(self) -> Host:
        """The node as admission sees it."""
        node, name = self.node.informer.get(self.options.node_name), self.options.node_name
        unsafe = self.options.settings.allowed_unsafe_sysctls
        if node is None:
            return Host(name, self._allocatable, self.options.node_labels, unsafe_sysctls=unsafe)
        # what others have added (extended resources) counts beside what this node says of itself
        features = node.status.features
        strict = features is not None and features.supplementalGroupsPolicy
        return Host(name, {**node.status.allocatable, **self._allocatable}, node.metadata.labels, node.spec.taints, strict, unsafe)

    def readdress(self, node_ips: tuple[str, ...]) -> None:
        """The machine has other addresses now: the Node says so at once, pods that use them at their next look."""
        self.options = self.tools.options = replace(self.options, node_ips=node_ips)
        self.node.readdress(self.options)

    def components(self) -> Sequence[tuple[str, Component]]:
        """What a supervisor runs, in this order."""
        made: list[tuple[str, Component]] = [
            ("kubelet events", _always(self._events.run)),
            ("kubelet pod informer", _always(self._pod_informer.run)),
            ("kubelet service informer", _always(self._services.run)),
            ("kubelet node informer", _always(self.node.informer.run)),
            ("kubelet node", self.node.run),
            ("kubelet lease", self.node.run_lease),
            ("kubelet pods", self.pods.run),
            ("kubelet eviction", self.evictor.run),
            ("kubelet images", self.collector.run),
            ("kubelet node allocatable", self._enforce_allocatable),
            ("kubelet log rotation", LogRotation(self.tools, self.pods).run),
        ]
        if self._static is not None:
            made += [("kubelet static pods", self._static.watch), ("kubelet mirror pods", self._keep_mirrors)]
        if self._server_tls is not None:
            made.append(("kubelet endpoint", self._serve))
        return made

    async def _enforce_allocatable(self, health: Health) -> None:
        """Limit the pods together to what the node has for them; where they use more as yet, that is tried again."""
        health.well()
        node = Node(metadata=ObjectMeta(name=self.options.node_name, uid=self.options.node_name))
        while True:
            try:
                await asyncio.to_thread(self.tools.cgroups.limit_pods, *self._enforced)
                break
            except OSError as error:
                said = f"Failed to update Node Allocatable Limits {self.tools.cgroups.class_name(resources.GUARANTEED)!r}: {error.strerror}"
                self._events.record(node, "Warning", "FailedNodeAllocatableEnforcement", said)
                await asyncio.sleep(60)
        self._events.record(node, "Normal", "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")
        await asyncio.Event().wait()

    async def _keep_mirrors(self, health: Health) -> None:
        assert self._static is not None
        name = self.options.node_name
        await self._static.keep_mirrors(health, lambda: self.node.informer.get(name), lambda: self.pods.workers)

    def _shutting_down(self) -> None:
        self.node.problem = shutdown.PROBLEM
        self.node.wake()

    def _pressure_changed(self) -> None:
        self.node.pressure = self.evictor.conditions
        self.node.wake()

    async def _serve(self, health: Health) -> None:
        from minikube_py.kubelet.server import KubeletServer

        assert self._server_tls is not None
        await KubeletServer(self.tools, self.pods, self._server_tls, self._connect).run(health)

    async def close(self) -> None:
        """Let go of what the components shared, after they have ended."""
        await self.tools.probes.close()
        await self.tools.images.close()
        await self.tools.config_maps.close()
        await self.tools.secrets.close()
        await self._handlers.close()


def _always(run: Callable[[], Coroutine[Any, Any, None]]) -> Component:
    async def component(health: Health) -> None:
        health.well()
        await run()

    return component
