"""Pods that nobody ends any more: those on nodes that are gone, those that are ending without ever having had a node, too many ended ones.

plan(): pods, nodes, the time → what to delete. A node has to be missing for a while before its pods go: it may just be registering anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from minikube_py.client import Patch
from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, Pace, in_batches
from minikube_py.controllers.nodes import OUT_OF_SERVICE, condition
from minikube_py.meta.errors import Conflict, NotFound
from minikube_py.types.core import Node
from minikube_py.types.meta import timestamp
from minikube_py.types.pod import Pod, is_terminal

_KEY = "pods"


class Plan(NamedTuple):
    """What to delete, by why."""

    surplus: tuple[Pod, ...]
    orphaned: tuple[Pod, ...]
    unscheduled: tuple[Pod, ...]
    out_of_service: tuple[Pod, ...]


def plan(pods: Sequence[Pod], nodes: Mapping[str, Node], gone: Collection[str], threshold: int) -> Plan:
    """`gone`: names of nodes that have been missing for long enough. `threshold`: ended pods that are kept; 0 and below keeps all."""
    ended = [pod for pod in pods if is_terminal(pod) and pod.metadata.deletionTimestamp is None]
    surplus: list[Pod] = []
    if threshold > 0 and len(ended) > threshold:
        # evicted pods first, then the oldest
        ended.sort(key=lambda pod: (pod.status.reason != "Evicted", pod.metadata.creationTimestamp or "", pod.metadata.name))
        surplus = ended[: len(ended) - threshold]
    broken = {
        name
        for name, node in nodes.items()
        if any(t.key == OUT_OF_SERVICE for t in node.spec.taints)
        and ((ready := condition(node, "Ready")) is None or ready.status != "True")
    }
    return Plan(
        tuple(surplus),
        tuple(pod for pod in pods if pod.spec.nodeName in gone),
        tuple(pod for pod in pods if pod.metadata.deletionTimestamp is not None and not pod.spec.nodeName),
        tuple(pod for pod in pods if pod.metadata.deletionTimestamp is not None and pod.spec.nodeName in broken),
    )


class PodGCController(Controller):
    """Looks at all pods at once, at times: one key, one worker."""

    name = "podgc"
    identity = "pod-garbage-collector"
    workers = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pods = context.informers.of(Pod)
        self._nodes = context.informers.of(Node)
        self._missing: dict[str, float] = {}
        self._pace = Pace(self.clock)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._pods, self._interesting), Watch(self._nodes, self._concerned))

    def _interesting(self, pod: Pod) -> Iterable[str]:
        node = pod.spec.nodeName
        lost = self._nodes.get(node) is None and node not in self._missing if node else pod.metadata.deletionTimestamp is not None
        if lost or is_terminal(pod):
            yield _KEY

    def _concerned(self, node: Node) -> Iterable[str]:
        if self._nodes.get(node.key) is None or any(t.key == OUT_OF_SERVICE for t in node.spec.taints):
            yield _KEY

    async def reconcile(self, key: str) -> float | None:
        if wait := self._pace.wait(key):
            return wait
        pods = self._pods.list()
        now = self.clock.monotonic()
        homeless = {pod.spec.nodeName for pod in pods if pod.spec.nodeName and self._nodes.get(pod.spec.nodeName) is None}
        self._missing = {name: self._missing.get(name, now) for name in homeless}
        gone = set()
        waits = [self.options.pod_gc_period]
        for name, since in self._missing.items():
            due = since + self.options.pod_gc_quarantine
            if due <= now and not await self._exists(name):
                gone.add(name)
            else:
                waits.append(max(0.1, due - now))
        nodes = {node.key: node for node in self._nodes.list()}
        todo = plan(pods, nodes, gone, self.options.terminated_pod_gc_threshold)
        self._pace.took(key, self.clock.monotonic() - now)
        await in_batches((*todo.surplus, *todo.unscheduled, *todo.out_of_service), self._remove)
        await in_batches(todo.orphaned, lambda pod: self._remove(pod, "PodGC: node no longer exists"))
        return min(waits)

    async def _exists(self, node: str) -> bool:
        """Asked of the server itself: a stale informer must not cost pods."""
        try:
            await self.client.get(Node, node)
        except NotFound:
            return False
        return True

    async def _remove(self, pod: Pod, disruption: str = "") -> None:
        """Nobody else will say how the pod ended, so it is marked as failed before it goes."""
        meta = pod.metadata
        status: dict[str, Any] = {}
        if not is_terminal(pod):
            status["phase"] = "Failed"
            if disruption:
                stamp = timestamp(self.clock.time())
                reason = {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": disruption}
                status["conditions"] = [{**reason, "lastTransitionTime": stamp}]
        try:
            if status:
                patch = {"metadata": {"uid": meta.uid}, "status": status}
                await self.client.patch(Pod, meta.name, patch, meta.namespace, kind=Patch.STRATEGIC, subresource="status")
            await self.client.delete(Pod, meta.name, meta.namespace, uid=meta.uid, grace_seconds=0)
        except (NotFound, Conflict):
            return
