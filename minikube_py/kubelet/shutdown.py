"""Ends the node's pods before the machine goes down: those of users first, critical ones last, each part with its time.

Whoever shuts the machine down says so (`begin`), and reads in the state file when it is over. From then on the node is not ready and takes
no pods, until a new agent starts. The words are the kubelet's (pkg/kubelet/nodeshutdown); it listens to logind instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from minikube_py.kubelet.admission import Rejection
from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.worker import Ending, PodWorker
from minikube_py.types.core import Node
from minikube_py.types.meta import timestamp
from minikube_py.types.pod import Pod

log = logging.getLogger(__name__)

STATE_FILE = "graceful_node_shutdown_state"
PROBLEM = "node is shutting down"
_CRITICAL_PRIORITY = 2_000_000_000
_ENDED = Ending("Failed", "Terminated", "Pod was terminated in response to imminent node shutdown.", disruption=True)


class State(msgspec.Struct, frozen=True):
    """What the state file holds; no end while pods are being ended."""

    startTime: str
    endTime: str | None = None


class Group(NamedTuple):
    """Pods that are ended together, and the seconds that they have at most."""

    seconds: float
    workers: tuple[PodWorker, ...]


def groups(pods: Iterable[tuple[Pod, PodWorker]], whole: float, critical: float) -> tuple[Group, Group]:
    """Ordinary pods, then critical ones; `critical` seconds are the last part of the `whole` time."""
    ordinary: list[PodWorker] = []
    last: list[PodWorker] = []
    for pod, worker in pods:
        (last if (pod.spec.priority or 0) >= _CRITICAL_PRIORITY else ordinary).append(worker)
    return Group(whole - critical, tuple(ordinary)), Group(critical, tuple(last))


class Shutdown:
    """The node's end. `changed` is called when it begins."""

    def __init__(self, tools: Tools, pods: Pods, node: Callable[[], Node | None], changed: Callable[[], None]) -> None:
        self._tools, self._pods, self._node, self._changed = tools, pods, node, changed
        self.begun = False

    @property
    def state_file(self) -> Path:
        """Where it is said when the pods have ended."""
        return self._tools.options.root_dir / STATE_FILE

    def admit(self, pod: Pod) -> Rejection | None:
        """An admission handler: a pod may come too late."""
        return Rejection("NodeShutdown", "Pod was rejected as the node is shutting down.") if self.begun else None

    async def begin(self) -> None:
        """End all pods; returns when they have ended, or their time is over. Once is enough."""
        if self.begun:
            return
        settings, began = self._tools.options.settings, timestamp(self._tools.clock.time())
        if not settings.shutdown_grace_period:
            log.info("the machine shuts down; pods are not ended, since --shutdown-grace-period is 0")
            await asyncio.to_thread(self._write, State(began, began))
            return
        self.begun = True
        log.info("the machine shuts down: ending the pods", extra={"seconds": settings.shutdown_grace_period})
        await asyncio.to_thread(self._write, State(began))
        if (node := self._node()) is not None:
            self._tools.events.record(node, "Normal", "NodeShutdown", "Shutdown manager detected shutdown event")
        self._changed()
        active = [(worker.pod, worker) for worker in self._pods.workers.values() if worker.pod is not None and not worker.reclaimed]
        known = [(pod, worker) for pod, worker in active if pod is not None]
        for group in groups(known, settings.shutdown_grace_period, settings.shutdown_grace_period_critical_pods):
            await _end(group)
        await asyncio.to_thread(self._write, State(began, timestamp(self._tools.clock.time())))
        log.info("the pods have ended")

    def _write(self, state: State) -> None:
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.state_file.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(state))
        fresh.replace(self.state_file)


async def _end(group: Group) -> None:
    for worker in group.workers:
        worker.end(_ENDED._replace(grace=int(group.seconds)))
    try:
        async with asyncio.timeout(group.seconds):
            for worker in group.workers:
                await worker.settled.wait()
    except TimeoutError:
        log.warning("some pods have not ended in their time", extra={"seconds": group.seconds})
