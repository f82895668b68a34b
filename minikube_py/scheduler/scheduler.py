"""The scheduler's mechanism: informers feed the queue and the picture of the world, decisions become Bindings through the API.

One loop decides, pod by pod, on the picture with all earlier decisions in it; bindings run beside it, a bounded number at once. A pod whose
binding fails is taken out of the picture again and comes back after its backoff. Where room has to be made for a pod, room is kept for it
on the node (nominatedNodeName) while the victims end; nothing is decided for it as long as they are being told.
"""

from __future__ import annotations

import asyncio
import logging
import random as random_module
import time
from collections.abc import Callable, Sequence

from minikube_py.aio import Clock, Health, SystemClock, Tasks, cancel, wait_at_most
from minikube_py.client import Client
from minikube_py.control import EventRecorder, Informers
from minikube_py.meta.errors import NotFound
from minikube_py.scheduler.decide import Decider, Decision
from minikube_py.scheduler.nodeinfo import Cluster, NodeInfo
from minikube_py.scheduler.objects import FOLLOWED, Objects
from minikube_py.scheduler.podinfo import PodInfo
from minikube_py.scheduler.preempt import Preemption
from minikube_py.scheduler.profile import DEFAULT, Profile
from minikube_py.scheduler.queue import Queued, SchedulingQueue
from minikube_py.scheduler.volumebinder import VolumeBinder, VolumeBindingError
from minikube_py.scheduler.volumes import Volumes
from minikube_py.scheduler.world import World
from minikube_py.scheduler.writes import Failure, Writer
from minikube_py.types import effective
from minikube_py.types.core import Node, PersistentVolumeClaim
from minikube_py.types.meta import Object
from minikube_py.types.pod import Pod, is_terminal
from minikube_py.types.storage import PersistentVolume, StorageClass

log = logging.getLogger(__name__)

MAX_WRITES = 64
"""Bindings and status patches on their way at once."""

SLICE = 0.004
"""Seconds of deciding before the loop's other tasks get their turn."""

RECONSIDER = 0.1
"""Seconds at least between two looks at the pods that wait for something elsewhere than on one node."""


ANY = ""
"""Storage that any claim may be waiting for."""


class Scheduler:
    """Assigns pods to nodes. `run` is its supervised component."""

    name = "scheduler"

    def __init__(
        self,
        client: Client,
        informers: Informers,
        *,
        profiles: Sequence[Profile] = (DEFAULT,),
        clock: Clock | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._client, self._clock, self._random = client, clock or SystemClock(), random
        self._profiles = {profile.name: profile for profile in profiles}
        self._wide = {p.name: frozenset(plugin.name for plugin in p.wide) for p in profiles}
        self._pods = informers.of(Pod)
        self._nodes = informers.of(Node)
        self._others = tuple(informers.of(view) for view in FOLLOWED)
        self._events = {name: EventRecorder(client, name, clock=self._clock) for name in self._profiles}
        self._writer = Writer(client, self._pods, self._clock)
        self._reset()

    def _reset(self) -> None:
        self.cluster = Cluster()
        self.queue = SchedulingQueue()
        self._objects = Objects(self._stir)
        self._binder = VolumeBinder(self._client, self._objects, self._clock)
        world = World(self.cluster, self._objects)
        self._deciders = {name: Decider(world, self._random, profile) for name, profile in self._profiles.items()}
        self._helped: dict[str, NodeInfo] = {}
        self._preempting: set[str] = set()
        self._stirred = False
        self._storage: set[str] = set()
        self._considered = (-1, 0.0)
        self._woken = asyncio.Event()
        self._room = asyncio.Semaphore(MAX_WRITES)

    async def run(self, health: Health) -> None:
        """Schedule until cancelled."""
        self._reset()
        await self._nodes.synced.wait()
        await self._pods.synced.wait()
        for other in self._others:
            await other.synced.wait()
        # a restarted component listens anew; the listeners of an earlier run fall silent with their `alive`
        alive = [True]
        objects = self._objects
        for other in self._others:
            other.listen(lambda old, new: objects.apply(old, new) if alive[0] else None)
        self._nodes.listen(lambda old, new: self._on_node(old, new) if alive[0] else None)
        self._pods.listen(lambda old, new: self._on_pod(old, new) if alive[0] else None)
        writes = Tasks()
        recorders = [asyncio.create_task(events.run(), name=f"{name} events") for name, events in self._events.items()]
        health.well()
        try:
            await self._loop(writes)
        finally:
            alive[0] = False
            await writes.close()
            for recorder in recorders:
                await cancel(recorder)

    # What changes

    def _stir(self, changed: Object) -> None:
        """Something changed that is not on a node: claims, volumes, their classes, namespaces."""
        self._stirred = True
        if isinstance(changed, PersistentVolumeClaim):
            self._storage.add(changed.key)
            self._binder.wake()
        elif isinstance(changed, (PersistentVolume, StorageClass)):
            self._storage.add(ANY)
        self._woken.set()

    def _on_node(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self.cluster.remove_node(old.metadata.name)
                self._woken.set()
            return
        if old is not None and _offers_the_same(old, new):
            return
        self._help(self.cluster.set_node(new))

    def _on_pod(self, old: Pod | None, new: Pod | None) -> None:
        if new is None or is_terminal(new):
            gone = new if new is not None else old
            if gone is not None:
                self._gone(gone.metadata.uid)
            return
        if old is not None and old.metadata.uid != new.metadata.uid:
            self._gone(old.metadata.uid)
            old = None
        if new.spec.nodeName:
            self._placed(old, new)
        elif new.spec.schedulerName in self._profiles and self.cluster.node_of(new.metadata.uid) is None:
            self._waiting(old, new)

    def _placed(self, old: Pod | None, new: Pod) -> None:
        uid = new.metadata.uid
        self.queue.remove(uid)
        counted = self.cluster.counted(uid)
        if counted is not None and self.cluster.node_of(uid) == new.spec.nodeName and _takes_the_same(counted.pod, new):
            if _is_the_same_to_others(counted.pod, new):
                counted.pod = new
                return
            # a binding copies the node's topology labels to the pod
            self._withdraw(uid)
            self.cluster.relabel(counted.relabelled(new))
            self._woken.set()
            return
        self._withdraw(uid)
        info = PodInfo(new)
        if counted is not None and counted.signature != info.signature:
            self._free(uid)
        self.cluster.place(info, new.spec.nodeName)
        self._woken.set()

    def _waiting(self, old: Pod | None, new: Pod) -> None:
        uid = new.metadata.uid
        if new.metadata.deletionTimestamp is not None or new.spec.schedulingGates:
            self.queue.remove(uid)
            self._withdraw(uid)
            return
        now, info = self._clock.monotonic(), PodInfo(new)
        nominated = new.status.nominatedNodeName
        if nominated != (old.status.nominatedNodeName if old is not None else "") and nominated != self.cluster.nomination(uid):
            self._withdraw(uid)
            if nominated:
                self.cluster.nominate(info, nominated)
        changed = old is None or old.metadata.generation != new.metadata.generation or old.metadata.labels != new.metadata.labels
        if changed:
            self.queue.changed(info, now)
        else:
            # only its status changed, by ourselves as a rule: nothing that could help it
            self.queue.add(info, now)
        self._woken.set()

    def _gone(self, uid: str) -> None:
        self.queue.remove(uid)
        self._withdraw(uid)
        self._free(uid)

    def _withdraw(self, uid: str) -> None:
        node = self.cluster.withdraw(uid) if self.cluster.nomination(uid) else None
        if node is not None and node.node is not None:
            self._help(node)

    def _free(self, uid: str) -> None:
        info = self.cluster.forget(uid)
        if info is not None and info.node is not None:
            self._help(info)

    def _help(self, info: NodeInfo) -> None:
        self._helped[info.name] = info
        self._woken.set()

    def _release(self, *, idle: bool = False) -> int:
        """Give pods another try that what changed could help. Gives their number.

        Most wait for a node: the filters are asked again, of the nodes alone that changed. Those that a plugin rejected which looks
        further can be helped by what happens anywhere: they are asked about less often while there is other work. Pods with claims are
        tried again whenever their storage changes: if nothing else, what they wait for is another thing then.
        """
        now = self._clock.monotonic()
        generation, at = self._considered
        anywhere = (self._stirred or generation != self.cluster.generation) and (idle or now >= at + RECONSIDER)
        if not self._helped and not anywhere:
            return 0
        helped, self._helped = self._helped, {}
        storage: set[str] = set()
        if anywhere:
            storage, self._storage = self._storage, set()
            self._stirred, self._considered = False, (self.cluster.generation, now)
        verdicts: dict[object, bool] = {}

        def could_help(queued: Queued) -> bool:
            info = queued.info
            if info.uid in self._preempting:
                return False
            wide = bool(queued.plugins & self._wide[info.pod.spec.schedulerName])
            if not (anywhere if wide else helped):
                return False
            if storage and info.claims and (ANY in storage or not storage.isdisjoint(info.claims)):
                return True
            own = info.uid if self.cluster.nomination(info.uid) else ""
            key = (info.pod.spec.schedulerName, wide, info.signature, info.kind, info.wishes, info.claims, own)
            verdict = verdicts.get(key)
            if verdict is None:
                decider = self._deciders[info.pod.spec.schedulerName]
                verdict = verdicts[key] = decider.possible(info) if wide else decider.helped(info, helped.values())
            return verdict

        return self.queue.move(could_help, now)

    # Deciding

    async def _loop(self, writes: Tasks) -> None:
        until = time.perf_counter() + SLICE
        while True:
            self._release()
            queued = self.queue.pop(self._clock.monotonic())
            if queued is None and self._release(idle=True):
                continue
            if queued is None:
                self._woken.clear()
                await wait_at_most(self._woken, self.queue.next_due(self._clock.monotonic()))
                until = time.perf_counter() + SLICE
                continue
            await self._room.acquire()
            self._schedule(queued, writes)
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + SLICE

    def _schedule(self, queued: Queued, writes: Tasks) -> None:
        info = queued.info
        if self.queue.where(info.uid) != "popped":
            # it went away while the loop waited for room
            self._room.release()
            return
        decision = self._deciders[info.pod.spec.schedulerName].decide(info)
        if decision.node is None:
            self._turn_down(queued, decision, writes)
            return
        reserved = self._binder.reserve(info, self.cluster.nodes[decision.node])
        self._withdraw(info.uid)
        self.cluster.place(info, decision.node)
        writes.spawn(self._bind(queued, decision.node, reserved), f"bind {info.key}")

    def _turn_down(self, queued: Queued, decision: Decision, writes: Tasks) -> None:
        info, diagnosis, preemption = queued.info, decision.diagnosis, decision.preemption
        assert diagnosis is not None
        self.queue.rejected(queued, self._clock.monotonic(), diagnosis.plugins)
        nominated = None
        if preemption is not None:
            nominated = preemption.node
            self._preempting.add(info.uid)
            self._withdraw(info.uid)
            self.cluster.nominate(info, nominated)
        elif decision.hopeless and (info.pod.status.nominatedNodeName or self.cluster.nomination(info.uid)):
            nominated = ""
            self._withdraw(info.uid)
        writes.spawn(self._say_unschedulable(info, diagnosis.message, nominated, preemption), f"unschedulable {info.key}")

    async def _say_unschedulable(self, info: PodInfo, message: str, nominated: str | None, preemption: Preemption | None) -> None:
        try:
            events = self._events[info.pod.spec.schedulerName]
            events.record(info.pod, "Warning", "FailedScheduling", message)
            await self._writer.waits(info, "Unschedulable", message, nominated)
            if preemption is not None:
                await self._preempt(info, preemption, events)
        finally:
            self._room.release()

    async def _preempt(self, info: PodInfo, preemption: Preemption, events: EventRecorder) -> None:
        """Take the hope from pods that the room on the node was kept for and that matter less, then end the victims."""
        node = self.cluster.nodes.get(preemption.node)
        failed = False
        try:
            for other in list(node.nominated.values()) if node is not None else ():
                if other.priority < info.priority and self.cluster.nomination(other.uid) == preemption.node:
                    self._withdraw(other.uid)
                    self.queue.changed(other, self._clock.monotonic())
                    await self._writer.unnominate(other)
            results = await asyncio.gather(
                *(self._writer.evict(victim, info, preemption.node, events) for victim in preemption.victims), return_exceptions=True
            )
            for result in results:
                if isinstance(result, Failure):
                    failed = True
                    log.warning("preemption failed, trying again", extra={"pod": info.key, "error": str(result)})
                elif result is not None:
                    raise result
        finally:
            self._preempting.discard(info.uid)
        if failed and info.uid in self.queue:
            self.queue.changed(info, self._clock.monotonic())
        # a victim may have gone before the pod could hear of it
        current = self.cluster.nodes.get(preemption.node)
        if current is not None:
            self._help(current)

    async def _bind(self, queued: Queued, node: str, reserved: Volumes | None) -> None:
        info = queued.info
        held = True
        try:
            if reserved is not None:
                # a provisioner may take minutes: other pods go on meanwhile
                self._room.release()
                held = False
                await self._binder.bind(info, node, reserved)
            await self._writer.bind(info, node)
        except NotFound:
            self._gone(info.uid)
        except (*Failure, VolumeBindingError) as error:
            await self._binding_failed(queued, node, error)
        else:
            events = self._events[info.pod.spec.schedulerName]
            events.record(info.pod, "Normal", "Scheduled", f"Successfully assigned {info.key} to {node}")
        finally:
            self._binder.release(reserved)
            if held:
                self._room.release()

    async def _binding_failed(self, queued: Queued, node: str, error: Exception) -> None:
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
        message = str(error) if isinstance(error, VolumeBindingError) else f"binding rejected: {error}"
        self._events[info.pod.spec.schedulerName].record(info.pod, "Warning", "FailedScheduling", message)
        await self._writer.waits(info, "SchedulerError", message)


def _takes_the_same(old: Pod, new: Pod) -> bool:
    """Whether a placed pod takes what it took: only a resize changes that."""
    before, after = old.metadata, new.metadata
    return after.generation <= 1 or (before.generation == after.generation and effective.granted(old) == effective.granted(new))


def _is_the_same_to_others(old: Pod, new: Pod) -> bool:
    """Whether a placed pod is to others what it was."""
    before, after = old.metadata, new.metadata
    return before.labels == after.labels and before.deletionTimestamp == after.deletionTimestamp


def _offers_the_same(old: Node, new: Node) -> bool:
    """Whether nothing changed that a decision reads: heartbeats end here."""
    return (
        old.metadata.uid == new.metadata.uid
        and old.metadata.labels == new.metadata.labels
        and old.spec == new.spec
        and old.status.allocatable == new.status.allocatable
        and old.status.images == new.status.images
    )
