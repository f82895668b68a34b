"""NoExecute taints: pods that do not tolerate them are deleted, those that tolerate them for a while when the while is over.

plan(): a node, its pods, since when each has had to go, the time → which to delete now, and when the next one is due. A while counts from
when the first taint was added that the pod tolerates for a while only, or when the pod came, whichever is later; a taint that takes another
one's place starts nothing anew. Where a taint has no date, it counts from when it was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from minikube_py.client import Patch
from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, in_batches
from minikube_py.controllers.node_lifecycle import pod_node
from minikube_py.controllers.nodes import eviction_delay
from minikube_py.meta.errors import Conflict, NotFound
from minikube_py.types.core import Node
from minikube_py.types.meta import parse_timestamp, timestamp
from minikube_py.types.pod import Pod


class Plan(NamedTuple):
    """Pods to delete now, seconds until the next one is due, and by uid since when the others have had to go."""

    evict: tuple[Pod, ...] = ()
    again: float | None = None
    since: Mapping[str, float] = MappingProxyType({})


def plan(node: Node, pods: Sequence[Pod], since: Mapping[str, float], now: float) -> Plan:
    """What the node's NoExecute taints mean for the pods on it. `since` is what the last plan for the node said."""
    taints = [t for t in node.spec.taints if t.effect == "NoExecute"]
    evict = []
    waiting: dict[str, float] = {}
    again: float | None = None
    for pod in pods if taints else ():
        if pod.metadata.deletionTimestamp is not None:
            continue
        limits = [(delay, taint) for taint in taints if (delay := eviction_delay(pod.spec.tolerations, taint)) is not None]
        if not limits:
            continue
        came = parse_timestamp(pod.metadata.creationTimestamp) if pod.metadata.creationTimestamp else now
        added = min(parse_timestamp(taint.timeAdded) if taint.timeAdded else now for _, taint in limits)
        begun = since.get(pod.metadata.uid, min(now, max(added, came)))
        left = begun + min(delay for delay, _ in limits) - now
        if left <= 0 or any(not delay for delay, _ in limits):
            evict.append(pod)
        else:
            waiting[pod.metadata.uid] = begun
            again = left if again is None else min(again, left)
    return Plan(tuple(evict), again, waiting)


class TaintEvictionController(Controller):
    """Deletes pods that their node's taints drive out."""

    name = "taint-eviction"
    identity = "node-controller"
    component = "taint-eviction-controller"
    workers = 4

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = context.informers.of(Node)
        self._pods = context.informers.of(Pod)
        self._pods.add_index("node", pod_node)
        self._since: dict[str, Mapping[str, float]] = {}

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._nodes), Watch(self._pods, self._tainted_node))

    def _tainted_node(self, pod: Pod) -> Sequence[str]:
        node = self._nodes.get(pod.spec.nodeName) if pod.spec.nodeName else None
        return (pod.spec.nodeName,) if node is not None and any(t.effect == "NoExecute" for t in node.spec.taints) else ()

    async def reconcile(self, key: str) -> float | None:
        node = self._nodes.get(key)
        before = self._since.pop(key, {})
        if node is None:
            return None
        pods = self._pods.by_index("node", key)
        todo = plan(node, pods, before, self.clock.time())
        if todo.since:
            self._since[key] = todo.since
        if before:
            evicted = {pod.metadata.uid for pod in todo.evict}
            for pod in pods:
                if pod.metadata.uid in before and pod.metadata.uid not in todo.since and pod.metadata.uid not in evicted:
                    self.events.record(pod, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {pod.key}")
        await in_batches(todo.evict, self._evict)
        return todo.again

    async def _evict(self, pod: Pod) -> None:
        meta = pod.metadata
        self.events.record(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {pod.key}")
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": timestamp(self.clock.time()),
        }
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
        try:
            await self.client.patch(Pod, meta.name, patch, meta.namespace, kind=Patch.STRATEGIC, subresource="status")
            await self.client.delete(Pod, meta.name, meta.namespace, uid=meta.uid)
        except (NotFound, Conflict):
            return
