"""Keeps the node alive: looks at what is left of it, says what pressure it is under, and ends pods where nothing else helps.

One look every ten seconds, and at once again after a pod had to go and is gone. What to do is `eviction`'s; this measures, reclaims dead
containers and unused images where they can help, and tells the workers of the pods that go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from minikube_py.aio import Health
from minikube_py.cri import errors
from minikube_py.kubelet import eviction
from minikube_py.kubelet.admission import Rejection
from minikube_py.kubelet.eviction import Decision, Observations
from minikube_py.kubelet.measure import Measure
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.worker import Ending, PodWorker
from minikube_py.meta import thresholds
from minikube_py.meta.thresholds import Threshold
from minikube_py.types.core import Node
from minikube_py.types.pod import Pod

log = logging.getLogger(__name__)

_CLEANUP_SECONDS = 30.0


class Evictor:
    """The node's pressure. `changed` is called when it is under another one; `reclaim` removes what nobody uses."""

    def __init__(
        self,
        tools: Tools,
        pods: Pods,
        measure: Measure,
        reclaim: Callable[[], Awaitable[None]],
        node: Callable[[], Node | None],
        changed: Callable[[], None],
    ) -> None:
        self._tools, self._pods, self._measure, self._reclaim, self._node, self._changed = tools, pods, measure, reclaim, node, changed
        self._memory = eviction.Memory()
        self.conditions: tuple[str, ...] = ()
        """The pressure that the node is under: the types of its conditions."""

    def admit(self, pod: Pod) -> Rejection | None:
        """An admission handler: some pods must not start on a node under pressure."""
        message = eviction.refusal(self.conditions, pod)
        return Rejection(eviction.REASON, message) if message else None

    async def run(self, health: Health) -> None:
        """Look, act, and look again, until cancelled."""
        while True:
            gone: Sequence[PodWorker] = ()
            try:
                gone = await self._look()
                health.well()
            except (errors.CriError, OSError) as error:
                health.degraded(str(error))
                log.warning("the node's resources could not be looked at", extra={"error": str(error)})
            if not gone or not await _until_reclaimed(gone):
                await asyncio.sleep(self._tools.options.housekeeping_seconds)

    async def _look(self) -> Sequence[PodWorker]:
        """The workers of the pods that had to go."""
        settings = self._tools.options.settings
        seen = await self._measure.node()
        now = self._tools.clock.monotonic()
        decision = eviction.decide(self._thresholds(), seen, self._memory, settings.eviction_pressure_transition_period, now)
        self._memory = decision.memory
        if decision.conditions != self.conditions:
            log.info("the node's pressure changed", extra={"conditions": decision.conditions})
            self.conditions = decision.conditions
            self._changed()
        active = {pod.metadata.uid: (pod, worker) for pod, worker in self._active()}
        gone = await self._over_their_limits(active)
        if gone or not decision.starved:
            return gone
        return await self._relieve(decision, seen, active)

    def _thresholds(self) -> Sequence[Threshold]:
        return thresholds.with_allocatable(self._tools.options.settings.eviction)

    def _active(self) -> Sequence[tuple[Pod, PodWorker]]:
        """The pods that run, or are to."""
        found = ((worker.pod, worker) for worker in self._pods.workers.values() if not worker.ending)
        return tuple((pod, worker) for pod, worker in found if pod is not None and pod.status.phase not in ("Succeeded", "Failed"))

    async def _over_their_limits(self, active: dict[str, tuple[Pod, PodWorker]]) -> Sequence[PodWorker]:
        limited = [pod for pod, _ in active.values() if eviction.has_local_limits(pod)]
        if not limited:
            return ()
        image_fs = await self._measure.image_fs()
        gone = []
        for uid, usage in (await self._measure.pods(limited, everything=False)).items():
            pod, worker = active[uid]
            excess = eviction.local_excess(pod, usage, image_fs)
            if excess is not None and not eviction.is_critical(pod):
                self._end(pod, worker, Ending("Failed", eviction.REASON, excess.message, grace=eviction.IMMEDIATE_GRACE))
                self._tools.metrics.count("kubelet_evictions", excess.signal)
                gone.append(worker)
        return gone

    async def _relieve(self, decision: Decision, seen: Observations, active: dict[str, tuple[Pod, PodWorker]]) -> Sequence[PodWorker]:
        """Win back what is short: from nobody first, then from one pod."""
        tools, threshold = self._tools, decision.starved[0]
        if (node := self._node()) is not None:
            tools.events.record(node, "Warning", "EvictionThresholdMet", f"Attempting to reclaim {decision.resource}")
        image_fs = await self._measure.image_fs()
        if eviction.reclaims_images(threshold.signal, image_fs):
            await self._reclaim()
            if not eviction.met(self._thresholds(), await self._measure.node(), reclaim=True):
                return ()
        pods = [pod for pod, _ in active.values()]
        usage = await self._measure.pods(pods)
        for pod in eviction.rank(threshold.signal, pods, usage, image_fs):
            if eviction.is_critical(pod):
                continue
            message = eviction.pressure_message(decision, seen, pod, usage.get(pod.metadata.uid))
            grace = eviction.IMMEDIATE_GRACE
            if not threshold.hard:
                own = pod.spec.terminationGracePeriodSeconds
                most = tools.options.settings.eviction_max_pod_grace_period
                grace = most if own is None else min(most, own)
            worker = active[pod.metadata.uid][1]
            self._end(pod, worker, Ending("Failed", eviction.REASON, message, grace=grace, disruption=True))
            tools.metrics.count("kubelet_evictions", threshold.signal)
            return (worker,)
        log.warning("no pod can be evicted", extra={"resource": decision.resource})
        return ()

    def _end(self, pod: Pod, worker: PodWorker, ending: Ending) -> None:
        log.warning("evicting a pod", extra={"pod": pod.key, "why": ending.message})
        self._tools.events.record(pod, "Warning", ending.reason, ending.message)
        worker.end(ending)


async def _until_reclaimed(workers: Sequence[PodWorker]) -> bool:
    """Until nothing of these pods is in use any more; False where that takes too long."""
    try:
        async with asyncio.timeout(_CLEANUP_SECONDS):
            for worker in workers:
                await worker.settled.wait()
    except TimeoutError:
        return False
    return True
