"""NoExecute taints: pods that do not tolerate them are deleted, those that tolerate them for a while when the while is over.

plan(): a node, its pods, the time → which to delete now, and when the next one is due. A while counts from when the taint was added or when
the pod came, whichever is later.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Pods to delete now, and seconds until the next one is due."""

    evict: tuple[Pod, ...]
    again: float | None


def plan(node: Node, pods: Sequence[Pod], now: float) -> Plan:
    """What the node's NoExecute taints mean for the pods on it."""
    taints = [t for t in node.spec.taints if t.effect == "NoExecute"]
    if not taints:
        return Plan((), None)
    evict = []
    again: float | None = None
    for pod in pods:
        if pod.metadata.deletionTimestamp is not None:
            continue
        came = parse_timestamp(pod.metadata.creationTimestamp) if pod.metadata.creationTimestamp else now
        dues = []
        for taint in taints:
            delay = eviction_delay(pod.spec.tolerations, taint)
            if delay is not None:
                since = parse_timestamp(taint.timeAdded) if taint.timeAdded else came
                dues.append(max(since, came) + delay if delay else now)
        if not dues:
            continue
        due = min(dues)
        if due <= now:
            evict.append(pod)
        else:
            again = due - now if again is None else min(again, due - now)
    return Plan(tuple(evict), again)


class TaintEvictionController(Controller):
    """Deletes pods that their node's taints drive out."""

    name = "taint-eviction"
    identity = "node-controller"
    workers = 4

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._nodes = context.informers.of(Node)
        self._pods = context.informers.of(Pod)
        self._pods.add_index("node", pod_node)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._nodes), Watch(self._pods, self._tainted_node))

    def _tainted_node(self, pod: Pod) -> Sequence[str]:
        node = self._nodes.get(pod.spec.nodeName) if pod.spec.nodeName else None
        return (pod.spec.nodeName,) if node is not None and any(t.effect == "NoExecute" for t in node.spec.taints) else ()

    async def reconcile(self, key: str) -> float | None:
        node = self._nodes.get(key)
        if node is None:
            return None
        todo = plan(node, self._pods.by_index("node", key), self.clock.time())
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
