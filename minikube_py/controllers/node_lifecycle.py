"""Nodes that fall silent: conditions turn Unknown, taints follow the conditions, pods on the node are no longer ready.

plan(): a node, when something was last heard of it, the time → the conditions and taints to write, and when to look again. "Heard" means
that the lease's renewal or the Ready condition's heartbeat was seen to change, by this process's own clock: clocks of nodes do not matter.
The taint that drives pods out is set at a pace that depends on how many other nodes are well (node_zones.py).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from minikube_py.client import Patch
from minikube_py.control import Watch
from minikube_py.controllers import node_zones
from minikube_py.controllers.base import Context, Controller, in_batches
from minikube_py.controllers.node_zones import Zones
from minikube_py.controllers.nodes import Evicting, condition, is_driven_out, taint_json, wanted_taints
from minikube_py.controllers.pods import condition_json
from minikube_py.meta.errors import Conflict, NotFound
from minikube_py.types.core import Lease, Node, Taint
from minikube_py.types.meta import Condition, ObjectMeta, timestamp
from minikube_py.types.pod import Pod, is_ready

log = logging.getLogger(__name__)

LEASES = "kube-node-lease"
_ZONES = "/zones"
"""The key under which all nodes are looked at together."""
_WATCHED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class Heard(NamedTuple):
    """The last heartbeat in a node's status, and when it was seen by the local monotonic clock."""

    heartbeat: str
    at: float


class Plan(NamedTuple):
    """Conditions and taints to write (None: they are right), and seconds until silence has to be judged again."""

    conditions: tuple[Condition, ...] | None
    taints: tuple[Taint, ...] | None
    again: float | None


def silence_limit(node: Node, grace: float, startup_grace: float) -> float:
    """How long a node may be silent. One that never reported has the longer startup grace."""
    return grace if condition(node, "Ready") is not None else startup_grace


def plan(node: Node, silent_for: float, limit: float, now: float, evicting: Callable[[], Evicting] = lambda: Evicting.YES) -> Plan:
    """What a silence of so many seconds means. `evicting` is asked once at most, where the node is not ready."""
    stamp = timestamp(now)
    conditions: tuple[Condition, ...] | None = None
    again: float | None = None
    if silent_for > limit:
        conditions = _unknown(node, stamp)
    else:
        again = limit - silent_for + 0.01
    current = conditions if conditions is not None else node.status.conditions
    away = any(c.type == "Ready" and c.status != "True" for c in current)
    taints = wanted_taints(node, current, stamp, evicting() if away else Evicting.YES)
    return Plan(conditions, taints if taints != node.spec.taints else None, again)


def _unknown(node: Node, stamp: str) -> tuple[Condition, ...] | None:
    by_type = {c.type: c for c in node.status.conditions}
    changed = False
    for type_ in _WATCHED:
        current = by_type.get(type_)
        if current is None:
            by_type[type_] = Condition(
                type=type_,
                status="Unknown",
                reason="NodeStatusNeverUpdated",
                message="Kubelet never posted node status.",
                lastHeartbeatTime=node.metadata.creationTimestamp,
                lastTransitionTime=stamp,
            )
            changed = True
        elif current.status != "Unknown":
            by_type[type_] = msgspec.structs.replace(
                current,
                status="Unknown",
                reason="NodeStatusUnknown",
                message="Kubelet stopped posting node status.",
                lastTransitionTime=stamp,
            )
            changed = True
    return tuple(by_type.values()) if changed else None


class NodeLifecycleController(Controller):
    """Watches over every node's signs of life."""

    name = "node-lifecycle"
    identity = "node-controller"
    workers = 4

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = context.informers.of(Node)
        self._leases = context.informers.of(Lease, field_selector=f"metadata.namespace={LEASES}")
        self._pods = context.informers.of(Pod)
        self._pods.add_index("node", pod_node)
        self._heard: dict[str, Heard] = {}
        self._renewed: dict[str, float] = {}
        self._zones = Zones(self.options.eviction_rates)
        self._assessed = -math.inf
        self._known: dict[str, str] = {}
        # renewals only date the node: they wake nobody, the timer asks for them
        self._leases.listen(self._on_lease)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._nodes, self._node_and_zones), Watch(self._pods, self._node_of_ready))

    def _node_and_zones(self, node: Node) -> Sequence[str]:
        """The node; the zones are looked at on a timer, once there is a first node."""
        return (node.key,) if self._assessed > -math.inf else (node.key, _ZONES)

    def _node_of_ready(self, pod: Pod) -> Sequence[str]:
        """A pod that says Ready on a node that has fallen silent."""
        node = self._nodes.get(pod.spec.nodeName) if pod.spec.nodeName and is_ready(pod) else None
        ready = condition(node, "Ready") if node is not None else None
        return (pod.spec.nodeName,) if ready is not None and ready.status == "Unknown" else ()

    def _on_lease(self, old: Lease | None, new: Lease | None) -> None:
        if new is not None and (old is None or old.spec.renewTime != new.spec.renewTime):
            self._renewed[new.metadata.name] = self.clock.monotonic()

    def _silence(self, node: Node) -> float:
        """Seconds since anything was heard of the node; 0 for one that is seen for the first time."""
        name = node.metadata.name
        ready = condition(node, "Ready")
        heartbeat = ready.lastHeartbeatTime or "" if ready is not None and ready.status != "Unknown" else ""
        now = self.clock.monotonic()
        last = self._heard.get(name)
        if last is None or (heartbeat and heartbeat != last.heartbeat):
            last = self._heard[name] = Heard(heartbeat, now)
        return now - max(last.at, self._renewed.get(name, last.at))

    def _limit(self, node: Node) -> float:
        return silence_limit(node, self.options.node_monitor_grace_period, self.options.node_startup_grace_period)

    def _assess(self) -> None:
        """Look at all nodes, and whether each is ready and has been heard of in time."""
        nodes = self._nodes.list()
        well = ((ready := condition(node, "Ready")) is not None and ready.status == "True" for node in nodes)
        views = [(node, ready and self._silence(node) <= self._limit(node)) for node, ready in zip(nodes, well, strict=True)]
        self._assessed = now = self.clock.monotonic()
        if self._zones.observe(node_zones.states(views, self.options.eviction_rates.unhealthy_zone_threshold)):
            # whoever was cut off may have been this side: the others get their time to report
            log.info("some nodes are ready again: pods on those that are not are moved from now on")
            for name, last in self._heard.items():
                self._heard[name] = last._replace(at=now)

    def _evicting(self, node: Node) -> tuple[Evicting, float | None]:
        """Whether the pods of a node that is not ready may be driven out now, and when to ask again."""
        now = self.clock.monotonic()
        if now - self._assessed >= min(1.0, self.options.node_monitor_period):
            self._assess()
        if self._zones.stopped:
            return Evicting.NO, self.options.node_monitor_period
        if is_driven_out(node):
            return Evicting.YES, self.options.node_monitor_period
        zone = node_zones.zone_of(node.metadata)
        wait = self._zones.wait(zone, now)
        if wait == 0:
            self._zones.give_up(zone, now)
            return Evicting.YES, None
        period = self.options.node_monitor_period
        return Evicting.NOT_YET, period if wait is None else min(wait, period)

    async def reconcile(self, key: str) -> float | None:
        if key == _ZONES:
            self._assess()
            return self.options.node_monitor_period
        node = self._nodes.get(key)
        if node is None:
            self._heard.pop(key, None)
            self._renewed.pop(key, None)
            if uid := self._known.pop(key, ""):
                gone = Node(metadata=ObjectMeta(name=key, uid=uid))
                self.events.record(gone, "Normal", "RemovingNode", f"Node {key} event: Removing Node {key} from Controller")
            return None
        if key not in self._known:
            message = f"Node {key} event: Registered Node {key} in Controller"
            self.events.record(node, "Normal", "RegisteredNode", message)
        self._known[key] = node.metadata.uid
        again: list[float | None] = []

        def evicting(node: Node = node) -> Evicting:
            decision, when = self._evicting(node)
            again.append(when)
            return decision

        todo = plan(node, self._silence(node), self._limit(node), self.clock.time(), evicting)
        again.append(todo.again)
        try:
            node = await self._apply(node, todo)
        except NotFound:
            return None
        ready = condition(node, "Ready")
        if ready is not None and ready.status == "Unknown":
            await self._mark_pods(node)
        return min((seconds for seconds in again if seconds is not None), default=None)

    async def _apply(self, node: Node, todo: Plan) -> Node:
        name = node.metadata.name
        if todo.conditions is not None:
            patch = {
                "metadata": {"resourceVersion": node.metadata.resourceVersion},
                "status": {"conditions": [condition_json(c) for c in todo.conditions]},
            }
            node = await self.client.patch(Node, name, patch, subresource="status")
            self.events.record(node, "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        if todo.taints is not None:
            body = {
                "metadata": {"resourceVersion": node.metadata.resourceVersion},
                "spec": {"taints": [taint_json(t) for t in todo.taints] or None},
            }
            node = await self.client.patch(Node, name, body)
        return node

    async def _mark_pods(self, node: Node) -> None:
        pods = [pod for pod in self._pods.by_index("node", node.metadata.name) if is_ready(pod)]
        await in_batches(pods, self._mark)

    async def _mark(self, pod: Pod) -> None:
        meta = pod.metadata
        ready = {"type": "Ready", "status": "False", "lastTransitionTime": timestamp(self.clock.time())}
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [ready]}}
        self.events.record(pod, "Warning", "NodeNotReady", "Node is not ready")
        try:
            await self.client.patch(Pod, meta.name, patch, meta.namespace, kind=Patch.STRATEGIC, subresource="status")
        except (NotFound, Conflict):
            return


def pod_node(pod: Pod) -> tuple[str, ...]:
    """The node that a pod is bound to."""
    return (pod.spec.nodeName,) if pod.spec.nodeName else ()
