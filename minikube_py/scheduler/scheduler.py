"""The scheduler's mechanism: informers feed the queue and the cluster's picture, decisions become Bindings through the API.

One loop decides, pod by pod, on the picture with all earlier decisions in it; bindings run beside it, a bounded number at once. A pod whose
binding fails is taken out of the picture again and comes back after its backoff.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import time
from collections.abc import Callable
from typing import Any

import orjson

from minikube_py.aio import Clock, Health, SystemClock, Tasks, cancel
from minikube_py.client import Client, Patch
from minikube_py.client.transport import TransportError
from minikube_py.control import EventRecorder, Informers
from minikube_py.meta.errors import NotFound, StatusError
from minikube_py.scheduler.decide import Decider, Diagnosis
from minikube_py.scheduler.nodeinfo import Cluster, NodeInfo
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.queue import Queued, SchedulingQueue
from minikube_py.types.core import Node
from minikube_py.types.meta import timestamp
from minikube_py.types.pod import Pod, is_terminal

log = logging.getLogger(__name__)

NAME = "default-scheduler"
MAX_WRITES = 64
"""Bindings and status patches on their way at once."""

SLICE = 0.004
"""Seconds of deciding before the loop's other tasks get their turn."""


class Scheduler:
    """Assigns pods to nodes. `run` is its supervised component."""

    name = "scheduler"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        *,
        scheduler_name: str = NAME,
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._client, self._scheduler_name, self._clock, self._random = client, scheduler_name, clock or SystemClock(), random
        self._pods = informers.of(Pod)
        self._nodes = informers.of(Node)
        self._events = EventRecorder(client, scheduler_name, clock=self._clock)
        self._reset()

    def _reset(self) -> None:
        self.cluster = Cluster()
        self.queue = SchedulingQueue()
        self._decider = Decider(self.cluster, self._random)
        self._helped: dict[str, NodeInfo] = {}
        self._woken = asyncio.Event()
        self._room = asyncio.Semaphore(MAX_WRITES)
        self._live = False

    async def run(self, health: Health) -> None:
        """Schedule until cancelled."""
        self._reset()
        await self._nodes.synced.wait()
        await self._pods.synced.wait()
        self._live = True
        # a restarted component listens anew; the listeners of an earlier run fall silent with their `alive`
        alive = [True]
        self._nodes.listen(lambda old, new: self._on_node(old, new) if alive[0] else None)
        self._pods.listen(lambda old, new: self._on_pod(old, new) if alive[0] else None)
        writes = Tasks()
        recorder = asyncio.create_task(self._events.run(), name="scheduler events")
        health.well()
        try:
            await self._loop(writes)
        finally:
            alive[0] = False
            await writes.close()
            await cancel(recorder)

    # What changes

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self.cluster.remove_node(old.metadata.name)
            return
        if old is not None and _offers_the_same(old, new):
            return
        self._help(self.cluster.set_node(new))

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if new is None or is_terminal(new):
            gone = new if new is not None else old
            if gone is not None:
                self.queue.remove(gone.metadata.uid)
                self._free(gone.metadata.uid)
            return
        if old is not None and old.metadata.uid != new.metadata.uid:
            self.queue.remove(old.metadata.uid)
            self._free(old.metadata.uid)
            old = None
        uid = new.metadata.uid
        if new.spec.nodeName:
            self.queue.remove(uid)
            same = old is not None and old.metadata.generation == new.metadata.generation and old.spec.nodeName == new.spec.nodeName
            if same or (self.cluster.node_of(uid) == new.spec.nodeName and new.metadata.generation <= 1):
                return
            if self.cluster.node_of(uid) is not None:
                self._free(uid)
            self.cluster.place(PodInfo(new), new.spec.nodeName)
            return
        if new.spec.schedulerName != self._scheduler_name or self.cluster.node_of(uid) is not None:
            return
        if new.metadata.deletionTimestamp is not None or new.spec.schedulingGates:
            self.queue.remove(uid)
            return
        now = self._clock.monotonic()
        changed = old is None or old.metadata.generation != new.metadata.generation or old.metadata.labels != new.metadata.labels
        if changed:
            self.queue.changed(PodInfo(new), now)
        else:
            # only its status changed, by ourselves as a rule: nothing that could help it
            self.queue.add(PodInfo(new), now)
        self._woken.set()

    def _free(self, uid: str) -> None:
        info = self.cluster.forget(uid)
        if info is not None and info.node is not None:
            self._help(info)

    def _help(self, info: NodeInfo) -> None:
        self._helped[info.name] = info
        self._woken.set()

    def _release_helped(self) -> None:
        """Give pods another try that a changed node could take now: every filter is asked again, of the changed nodes alone."""
        helped, self._helped = self._helped, {}
        verdicts: dict[object, bool] = {}

        def could_help(info: PodInfo) -> bool:
            verdict = verdicts.get(info.signature)
            if verdict is None:
                verdict = verdicts[info.signature] = any(self._decider.fits(info, node) for node in helped.values())
            return verdict

        self.queue.move(could_help, self._clock.monotonic())

    # Deciding

    async def _loop(self, writes: Tasks) -> None:
        until = time.perf_counter() + SLICE
        while True:
            if self._helped:
                self._release_helped()
            now = self._clock.monotonic()
            queued = self.queue.pop(now)
            if queued is None:
                self._woken.clear()
                await self._wait(self.queue.next_due(now))
                until = time.perf_counter() + SLICE
                continue
            await self._room.acquire()
            self._schedule(queued, writes)
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE

    async def _wait(self, delay: float | None) -> None:
        try:
            await asyncio.wait_for(self._woken.wait(), delay)
        except TimeoutError:
            return

    def _schedule(self, queued: Queued, writes: Tasks) -> None:
        info = queued.info
        if self.queue.where(info.uid) != "popped":
            # it went away while the loop waited for room
            self._room.release()
            return
        decision = self._decider.decide(info)
        if decision.node is None:
            assert decision.diagnosis is not None
            self.queue.rejected(queued, self._clock.monotonic())
            writes.spawn(self._say_unschedulable(info, decision.diagnosis), f"unschedulable {info.key}")
            return
        self.cluster.place(info, decision.node)
        writes.spawn(self._bind(queued, decision.node), f"bind {info.key}")

    async def _bind(self, queued: Queued, node: str) -> None:
        info = queued.info
        meta = info.pod.metadata
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"kind": "Node", "name": node},
        }
        try:
            await self._client.request("POST", Pod.resource.path(meta.namespace, meta.name, "binding"), body=orjson.dumps(body))
        except NotFound:
            self.queue.remove(info.uid)
            self._free(info.uid)
        except (StatusError, TransportError) as error:
            await self._binding_failed(queued, node, error)
        else:
            self._events.record(info.pod, "Normal", "Scheduled", f"Successfully assigned {info.key} to {node}")
        finally:
            self._room.release()

    async def _binding_failed(self, queued: Queued, node: str, error: StatusError | TransportError) -> None:
        info = queued.info
        current = self._pods.get(info.key)
        if current is not None and current.spec.nodeName:
            # the answer was lost or somebody else was faster: the informer's state holds
            self._free(info.uid)
            self.cluster.place(PodInfo(current), current.spec.nodeName)
            return
        log.warning("binding failed, trying again", extra={"pod": info.key, "node": node, "error": str(error)})
        self._free(info.uid)
        self.queue.failed(queued, self._clock.monotonic())
        self._woken.set()
        message = f"binding rejected: {error}"
        self._events.record(info.pod, "Warning", "FailedScheduling", message)
        await self._set_condition(info, "SchedulerError", message)

    async def _say_unschedulable(self, info: PodInfo, diagnosis: Diagnosis) -> None:
        try:
            self._events.record(info.pod, "Warning", "FailedScheduling", diagnosis.message)
            await self._set_condition(info, "Unschedulable", diagnosis.message)
        finally:
            self._room.release()

    async def _set_condition(self, info: PodInfo, reason: str, message: str) -> None:
        pod = self._pods.get(info.key)
        if pod is None or pod.metadata.uid != info.uid or pod.spec.nodeName:
            return
        condition = condition_patch(pod, reason, message, self._clock.time())
        if condition is None:
            return
        patch = {"metadata": {"uid": info.uid}, "status": {"conditions": [condition]}}
        meta = pod.metadata
        try:
            await self._client.patch(Pod, meta.name, patch, meta.namespace, kind=Patch.STRATEGIC, subresource="status")
        except (StatusError, TransportError) as error:
            log.debug("condition not written", extra={"pod": info.key, "error": str(error)})


def condition_patch(pod: Pod, reason: str, message: str, now: float) -> dict[str, Any] | None:
    """The PodScheduled condition to merge in, or None where the pod has it."""
    current = next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
    if current is not None and (current.status, current.reason, current.message) == ("False", reason, message):
        return None
    transition = current.lastTransitionTime if current is not None and current.status == "False" else timestamp(now)
    condition: dict[str, Any] = {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": transition,
        "lastProbeTime": None,
    }
    if pod.metadata.generation:
        condition["observedGeneration"] = pod.metadata.generation
    return condition


def _offers_the_same(old: Node, new: Node) -> bool:
    """Whether nothing changed that a decision reads: heartbeats end here."""
    return (
        old.metadata.uid == new.metadata.uid
        and old.metadata.labels == new.metadata.labels
        and old.spec == new.spec
        and old.status.allocatable == new.status.allocatable
    )
