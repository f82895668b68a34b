"""The workers of all pods of this node: one a UID, started for every pod that the API or the runtime has, woken by either, ended when
nothing is left.

What always holds: no worker starts before the API's pods were read once, so that a restart of this process never mistakes a running pod for
one that was deleted; what the runtime runs without a pod in the API is ended gracefully.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from minikube_py.aio import Backoff, Health, Tasks
from minikube_py.control import Informer
from minikube_py.cri import errors
from minikube_py.cri.events import EventKind
from minikube_py.kubelet import manifests, resources
from minikube_py.kubelet.admission import is_static
from minikube_py.kubelet.staticpods import StaticPods
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.volumes import manager
from minikube_py.kubelet.worker import PodWorker
from minikube_py.types.network import Service
from minikube_py.types.pod import Pod

log = logging.getLogger(__name__)

_RESYNC_SECONDS = 20.0
"""After which a runtime that does not answer is asked again."""


class Pods:
    """The node's pods and their workers."""

    def __init__(self, informer: Informer[Pod], services: Informer[Service]) -> None:
        self._informer, self._services = informer, services
        self._static: StaticPods | None = None
        self._tools: Tools | None = None
        self._by_uid: dict[str, Pod] = {}
        self._workers: dict[str, PodWorker] = {}
        self._tasks = Tasks()
        self._live = False
        self._burstable = -1
        self._weighing = asyncio.Lock()
        self._listening = False

    def bind(self, tools: Tools, static: StaticPods | None = None) -> None:
        """Give the workers what they work with, and the pods of the node's own manifests."""
        self._tools, self._static = tools, static

    @property
    def workers(self) -> Mapping[str, PodWorker]:
        """The workers by UID."""
        return self._workers

    def by_uid(self, uid: str) -> Pod | None:
        """The pod as the API, or the node's own manifest, has it."""
        found = self._by_uid.get(uid)
        return found if found is not None or self._static is None else self._static.get(uid)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of the pod that has that name now."""
        pod = self._informer.get(f"{namespace}/{name}")
        if pod is None:
            return None
        return self._workers.get(pod.metadata.annotations.get(manifests.MIRROR, pod.metadata.uid))

    def all(self) -> tuple[Pod, ...]:
        """The node's pods as they are asked for."""
        return (*self._by_uid.values(), *(self._static.all() if self._static is not None else ()))

    def active(self) -> Iterable[Pod]:
        """The pods that have not ended, and have not given back what they used."""
        for pod in self.all():
            worker = self._workers.get(pod.metadata.uid)
            if pod.status.phase not in ("Succeeded", "Failed") and not (worker is not None and worker.reclaimed):
                yield pod

    def wake(self, uid: str) -> None:
        """Have a pod looked at."""
        if (worker := self._workers.get(uid)) is not None:
            worker.wake()

    def retry(self, uid: str) -> None:
        """Have a pod looked at whose references have changed: what failed on them is tried again at once."""
        if (worker := self._workers.get(uid)) is not None:
            worker.retry_now()

    async def run(self, health: Health) -> None:
        """Follow the runtime's events and relist now and then, until cancelled."""
        assert self._tools is not None
        tools = self._tools
        await asyncio.to_thread(tools.cgroups.setup)
        health.degraded("waits for the pods and services of the API")
        await self._informer.synced.wait()
        await self._services.synced.wait()
        if self._static is not None:
            await self._static.read.wait()
        await asyncio.to_thread(lambda: tools.allocations.load(_uids_on_disk(tools)))
        health.degraded("waits for the container runtime")
        self._live = True
        if not self._listening:
            self._listening = True
            self._informer.listen(self._changed)
        else:
            for pod in self.all():
                self._ensure(pod.metadata.uid)
        relist = asyncio.create_task(self._relist_now_and_then(tools), name="kubelet relist")
        try:
            async for event in tools.cri.events():
                if event.kind is EventKind.RESYNC:
                    await self._resync(tools)
                    health.well()
                elif event.pod_uid:
                    self.wake(event.pod_uid)
        finally:
            self._live = False
            relist.cancel()
            await self._tasks.close()
            self._workers.clear()

    async def _resync(self, tools: Tools) -> None:
        """Look at everything, however often the runtime goes away meanwhile: the workers go on all the time."""
        backoff = Backoff(first=0.05, limit=2.0)
        while True:
            try:
                async with asyncio.timeout(_RESYNC_SECONDS):
                    return await self._relist(tools)
            except (errors.CriError, TimeoutError) as error:
                log.warning("relist failed, trying again", extra={"error": str(error) or "no answer"})
            await asyncio.sleep(backoff.next())

    async def _relist_now_and_then(self, tools: Tools) -> None:
        while True:
            await asyncio.sleep(tools.options.relist_seconds)
            try:
                await self._relist(tools)
            except errors.CriError as error:
                log.warning("relist failed", extra={"error": str(error)})

    async def _relist(self, tools: Tools) -> None:
        """Look at everything: what the runtime has and nobody wants gets a worker too, which ends it."""
        states = await tools.observer.pods()
        left_behind = await asyncio.to_thread(_uids_on_disk, tools)
        for uid in {*states, *(pod.metadata.uid for pod in self.all()), *left_behind}:
            self._ensure(uid)
        # where there is no Burstable pod too, and whoever has changed it meanwhile
        self._burstable = -1
        self._weigh_burstable()

    def static_changed(self, uid: str) -> None:
        """A manifest of the node's own came or went."""
        self._ensure(uid)
        self._weigh_burstable()

    def is_blocked(self, pod: Pod) -> bool:
        """Whether another pod of the same name, which a changed manifest has replaced, has not ended yet."""
        others = (worker.pod for uid, worker in self._workers.items() if uid != pod.metadata.uid)
        return any(other is not None and other.key == pod.key and is_static(other) for other in others)

    def _changed(self, old: Pod | None, new: Pod | None) -> None:
        seen = new or old
        if seen is not None and manifests.is_mirror(seen):
            if self._static is not None:
                self.wake(self._static.observe(old, new))
            return
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            if self._by_uid.get(old.metadata.uid) is old:
                del self._by_uid[old.metadata.uid]
            self.wake(old.metadata.uid)
        if new is not None:
            self._by_uid[new.metadata.uid] = new
            self._ensure(new.metadata.uid, changed=old is not None and _wanted(old) != _wanted(new))
        self._weigh_burstable()

    def _ensure(self, uid: str, changed: bool = False) -> None:
        if not self._live or self._tools is None:
            return
        worker = self._workers.get(uid)
        if worker is None:
            pod = self.by_uid(uid)
            worker = self._workers[uid] = PodWorker(self._tools, uid, pod)
            name = pod.key if pod is not None else uid
            self._tasks.spawn(worker.run(), f"pod {name}").add_done_callback(lambda _: self._ended(uid))
        elif changed:
            worker.retry_now()
        else:
            worker.wake()

    def _ended(self, uid: str) -> None:
        self._workers.pop(uid, None)
        if self._static is not None:
            self._static.ended()
            for pod in self._static.all():
                self.wake(pod.metadata.uid)

    def _weigh_burstable(self) -> None:
        tools = self._tools
        if tools is None or not self._live:
            return
        milli = resources.burstable_requests(p for p in self.all() if p.status.phase not in ("Succeeded", "Failed"))
        if milli != self._burstable:
            self._burstable = milli
            self._tasks.spawn(self._set_burstable(tools), "burstable cgroup")

    async def _set_burstable(self, tools: Tools) -> None:
        async with self._weighing:  # one after the other, so that the latest is what stays
            await asyncio.to_thread(tools.cgroups.set_burstable, self._burstable)


def _wanted(pod: Pod) -> tuple[int, Mapping[str, str], Mapping[str, str]]:
    """What a container's configuration is made of: its environment and subPaths may come from labels and annotations."""
    return pod.metadata.generation, pod.metadata.labels, pod.metadata.annotations


def _uids_on_disk(tools: Tools) -> set[str]:
    """Pods of which directories or cgroups are left."""
    return tools.cgroups.pods() | manager.uids(tools.options.root_dir)
