"""What the scheduler writes: bindings, conditions of pods that wait, and the end of pods that others take the place of."""

from __future__ import annotations

import logging
from typing import Any

import orjson

from minikube_py.aio import Clock
from minikube_py.client import Client, Patch
from minikube_py.client.transport import TransportError
from minikube_py.control import EventRecorder, Informer
from minikube_py.meta.errors import NotFound, StatusError
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.preempt import DISRUPTION_TARGET, REASON
from minikube_py.types.meta import timestamp
from minikube_py.types.pod import Pod

log = logging.getLogger(__name__)

Failure = (StatusError, TransportError)


class Writer:
    """Writes as one scheduler."""

    def __init__(self, client: Client, pods: Informer[Pod], clock: Clock) -> None:
        self._client, self._pods, self._clock = client, pods, clock

    async def bind(self, info: PodInfo, node: str) -> None:
        """Assign a pod to a node. Raises StatusError and TransportError."""
        meta = info.pod.metadata
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"kind": "Node", "name": node},
        }
        await self._client.request("POST", Pod.resource.path(meta.namespace, meta.name, "binding"), body=orjson.dumps(body))

    async def waits(self, info: PodInfo, reason: str, message: str, nominated: str | None = None) -> None:
        """Say in a pod's status why it has no node; with the node on which room is made for it, "" for none any more, None as it was."""
        pod = self._pods.get(info.key)
        if pod is None or pod.metadata.uid != info.uid or pod.spec.nodeName:
            return
        status: dict[str, Any] = {}
        condition = condition_patch(pod, "PodScheduled", "False", reason, message, self._clock.time())
        if condition is not None:
            status["conditions"] = [condition]
        if nominated is not None and nominated != pod.status.nominatedNodeName:
            status["nominatedNodeName"] = nominated or None
        await self._patch(info, status)

    async def unnominate(self, info: PodInfo) -> None:
        """Take a pod's hope for a node away."""
        await self._patch(info, {"nominatedNodeName": None})

    async def _patch(self, info: PodInfo, status: dict[str, Any]) -> None:
        if not status:
            return
        try:
            await self._patch_or_raise(info, status)
        except Failure as error:
            log.debug("status not written", extra={"pod": info.key, "error": str(error)})

    async def _patch_or_raise(self, info: PodInfo, status: dict[str, Any]) -> None:
        meta = info.pod.metadata
        patch = {"metadata": {"uid": info.uid}, "status": status}
        await self._client.patch(Pod, meta.name, patch, meta.namespace, kind=Patch.STRATEGIC, subresource="status")

    async def evict(self, victim: PodInfo, for_pod: PodInfo, node: str, events: EventRecorder) -> None:
        """End a pod gracefully, and say in it for whom. One that is gone, or going, is left alone. Raises StatusError, TransportError."""
        if victim.pod.metadata.deletionTimestamp is not None:
            return
        message = f"{for_pod.pod.spec.schedulerName}: preempting to accommodate a higher priority pod"
        condition = condition_patch(victim.pod, DISRUPTION_TARGET, "True", REASON, message, self._clock.time())
        meta = victim.pod.metadata
        try:
            if condition is not None:
                await self._patch_or_raise(victim, {"conditions": [condition]})
            await self._client.delete(Pod, meta.name, meta.namespace, uid=victim.uid)
        except NotFound:
            return
        events.record(victim.pod, "Normal", "Preempted", f"Preempted by pod {for_pod.uid} on node {node}")


def condition_patch(pod: Pod, type_: str, status: str, reason: str, message: str, now: float) -> dict[str, Any] | None:
    """A condition to merge in, or None where the pod has it."""
    current = next((c for c in pod.status.conditions if c.type == type_), None)
    if current is not None and (current.status, current.reason, current.message) == (status, reason, message):
        return None
    transition = current.lastTransitionTime if current is not None and current.status == status else timestamp(now)
    condition: dict[str, Any] = {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": transition,
        "lastProbeTime": None,
    }
    if pod.metadata.generation:
        condition["observedGeneration"] = pod.metadata.generation
    return condition
