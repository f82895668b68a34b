"""Registers the node, posts its status, renews its lease.

A status is looked at every ten seconds and written when something in it changed, or every five minutes; the lease says in between that the
node lives. A Node that somebody deleted is registered again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from minikube_py.aio import Backoff, Clock, Health, wait_at_most
from minikube_py.client import Client, Patch
from minikube_py.client.transport import TransportError
from minikube_py.control import EventRecorder, Informer
from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.kubelet import nodestatus
from minikube_py.kubelet.machine import Facts
from minikube_py.kubelet.nodestatus import Image, Runtime
from minikube_py.kubelet.options import KubeletOptions
from minikube_py.meta.errors import AlreadyExists, Conflict, NotFound, StatusError
from minikube_py.types.core import Lease, Node
from minikube_py.types.meta import micro_timestamp

log = logging.getLogger(__name__)

LEASE_NAMESPACE = "kube-node-lease"


class NodeAgent:
    """The node's own object and lease."""

    def __init__(self, client: Client, cri: CriClient, options: KubeletOptions, events: EventRecorder, facts: Facts, clock: Clock) -> None:
        self._client, self._cri, self._options, self._events, self._clock = client, cri, options, events, clock
        self._facts = facts
        self._node: Node | None = None
        self._written: dict[str, Any] | None = None
        self._written_at = 0.0
        self._said = nodestatus.pressure_reasons(())
        self._woken = asyncio.Event()
        self.registered = asyncio.Event()
        self.pressure: tuple[str, ...] = ()
        """The types of the pressure conditions that hold."""
        self.problem = ""
        """What beside the runtime keeps the node from being ready."""
        self.informer = Informer(client, Node, field_selector=f"metadata.name={options.node_name}")
        """The node's own object; follow it by running the informer."""
        self.informer.listen(self._changed)

    @property
    def node(self) -> Node | None:
        """The Node as it was last written."""
        return self._node

    def wake(self) -> None:
        """Look at the status now."""
        self._woken.set()

    def _changed(self, old: Node | None, new: Node | None) -> None:
        """Somebody changed or deleted the Node; a deletion is noticed at once, and so is that the node was given up for silent."""
        if new is not None:
            if self._node is not None and _given_up(self._written, self._node, new):
                self._node, self._written = new, None
                self.wake()
            elif old is not None and old.status.capacity != new.status.capacity:
                self.wake()
        elif old is not None and self._node is not None and old.metadata.uid == self._node.metadata.uid:
            self._node, self._written = None, None
            self.wake()

    async def run(self, health: Health) -> None:
        """Register, then keep the status current, until cancelled."""
        backoff = Backoff(first=0.1, limit=7.0)
        self._written = None
        while True:
            try:
                if self._node is None:
                    await self._register()
                    self._events.record(self._node_ref(), "Normal", "Starting", "Starting kubelet.")
                ready = await self._post()
                backoff.reset()
                health.well()
                # A node on its way up is looked at more often: whoever waits for it should not wait for a timer.
                delay = self._options.node_status_check_seconds if ready else 0.5
            except NotFound:
                log.info("the node was deleted, registering it again")
                self._node, self._written = None, None
                delay = 0.0
            except (StatusError, TransportError) as error:
                log.warning("node status not written", extra={"error": str(error)})
                health.degraded(str(error))
                delay = backoff.next()
            await wait_at_most(self._woken, delay)
            self._woken.clear()

    def readdress(self, options: KubeletOptions) -> None:
        """The node has other addresses now."""
        self._options = options
        self._woken.set()

    def _node_ref(self) -> Node:
        assert self._node is not None
        return self._node

    async def _register(self) -> None:
        options = self._options
        wanted = nodestatus.node(options, self._facts)
        wanted["status"] = await self._status()
        try:
            self._node = await self._client.create(Node, wanted)
            if self._node.status.conditions:
                self._written, self._written_at = wanted["status"], self._clock.time()
        except AlreadyExists:
            self._node = await self._client.get(Node, options.node_name)
            metadata = {"labels": wanted["metadata"]["labels"], "annotations": wanted["metadata"]["annotations"]}
            missing = {k for k, v in metadata["labels"].items() if self._node.metadata.labels.get(k) != v}
            if missing or any(self._node.metadata.annotations.get(k) != v for k, v in metadata["annotations"].items()):
                self._node = await self._client.patch(Node, options.node_name, {"metadata": metadata})
        self.registered.set()

    async def _post(self) -> bool:
        """Write the status if it is due; whether the node is ready."""
        status = await self._status()
        now = self._clock.time()
        due = now - self._written_at >= self._options.node_status_report_seconds
        if due or nodestatus.changed(self._written, status):
            was_ready = _ready(self._written)
            body = {"status": _replacing(status)}
            self._node = await self._client.patch(Node, self._options.node_name, body, kind=Patch.STRATEGIC, subresource="status")
            self._written, self._written_at = status, now
            shown = nodestatus.pressure_reasons(self.pressure)
            for reason in shown:
                if reason not in self._said:
                    self._events.record(self._node, "Normal", reason, f"Node {self._options.node_name} status is now: {reason}")
            self._said = shown
            if _ready(status) != was_ready:
                reason = "NodeReady" if _ready(status) else "NodeNotReady"
                self._events.record(self._node, "Normal", reason, f"Node {self._options.node_name} status is now: {reason}")
        return _ready(status)

    async def _status(self) -> dict[str, Any]:
        runtime = await self._runtime()
        live = self.informer.get(self._options.node_name)
        now = self._clock.time()
        return nodestatus.status(self._options, self._facts, runtime, self.pressure, self.problem, self._node, now, live)

    async def _runtime(self) -> Runtime:
        try:
            version, status, images = await asyncio.gather(self._cri.version(timeout=5.0), self._cri.status(), self._cri.list_images())
        except errors.CriError as error:
            return Runtime(problem=f"container runtime is down: {error}")
        problems = []
        for condition in status.status.conditions:
            if condition.type == "RuntimeReady" and not condition.status:
                problems.append(f"container runtime status check may not have completed yet: {condition.message}")
            elif condition.type == "NetworkReady" and not condition.status:
                problems.append(
                    f"container runtime network not ready: NetworkReady=false reason:{condition.reason} message:{condition.message}"
                )
        return Runtime(
            version=f"{version.runtime_name}://{version.runtime_version}",
            problem=", ".join(problems),
            handlers=[
                {
                    "name": handler.name,
                    "features": {
                        "recursiveReadOnlyMounts": handler.features.recursive_read_only_mounts,
                        "userNamespaces": handler.features.user_namespaces,
                    },
                }
                for handler in status.runtime_handlers
            ],
            features={"supplementalGroupsPolicy": status.features.supplemental_groups_policy} if status.HasField("features") else {},
            images=[Image(image.id, (*image.repo_digests, *image.repo_tags), image.size) for image in images],
        )

    # The lease

    async def run_lease(self, health: Health) -> None:
        """Renew the lease, at a quarter of its duration, until cancelled."""
        await self.registered.wait()
        interval = self._options.node_lease_duration_seconds * 0.25
        backoff = Backoff(first=0.2, limit=7.0)
        known = False
        while True:
            try:
                known = await self._renew(known)
                health.well()
                backoff.reset()
                await asyncio.sleep(interval)
            except (StatusError, TransportError) as error:
                known = False
                health.degraded(str(error))
                log.warning("lease not renewed", extra={"error": str(error)})
                await asyncio.sleep(backoff.next())

    async def _renew(self, known: bool) -> bool:
        name = self._options.node_name
        now = micro_timestamp(self._clock.time())
        spec = {"holderIdentity": name, "leaseDurationSeconds": self._options.node_lease_duration_seconds, "renewTime": now}
        if known:
            try:
                await self._client.patch(Lease, name, {"spec": {"renewTime": now}}, LEASE_NAMESPACE)
                return True
            except (NotFound, Conflict):
                pass
        owner = self._node
        metadata: dict[str, Any] = {"name": name}
        if owner is not None:
            metadata["ownerReferences"] = [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": owner.metadata.uid}]
        try:
            await self._client.create(
                Lease, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}, LEASE_NAMESPACE
            )
        except AlreadyExists:
            await self._client.patch(Lease, name, {"metadata": metadata, "spec": spec}, LEASE_NAMESPACE)
        return True


def _ready(status: dict[str, Any] | None) -> bool:
    return status is not None and any(c["type"] == "Ready" and c["status"] == "True" for c in status["conditions"])


def _given_up(written: dict[str, Any] | None, ours: Node, node: Node) -> bool:
    """Whether a condition that the node has written was turned into Unknown since then: by the control plane, for the node's silence."""
    if written is None or int(node.metadata.resourceVersion) <= int(ours.metadata.resourceVersion):
        return False
    unknown = {c.type for c in node.status.conditions if c.status == "Unknown"}
    return any(c["type"] in unknown for c in written["conditions"])


def _replacing(status: dict[str, Any]) -> dict[str, Any]:
    """As a strategic merge patch: addresses are replaced whole, conditions of others stay."""
    return {**status, "addresses": [*status["addresses"], {"$patch": "replace"}]}
