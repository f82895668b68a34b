"""Ends containers: the preStop hook, then the runtime's stop with what is left of the grace period."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec

from minikube_py.aio import Tasks, cancel
from minikube_py.kubelet.plan import Kill
from minikube_py.kubelet.resources import is_sidecar
from minikube_py.kubelet.state import ContainerId, ContainerRecord, PodState
from minikube_py.kubelet.steps import Steps
from minikube_py.kubelet.tools import Tools
from minikube_py.types.handlers import LifecycleHandler
from minikube_py.types.pod import Container, Pod

_SHORTEST_GRACE = 2


class _Killing(NamedTuple):
    deadline: float
    task: asyncio.Task[None]


class Killer:
    """The containers of one pod that are being ended. `done` is called whenever one has."""

    def __init__(self, tools: Tools, steps: Steps, uid: str) -> None:
        self._tools, self._steps, self._uid = tools, steps, uid
        self._killing: dict[ContainerId, _Killing] = {}
        self._tasks = Tasks()

    @property
    def busy(self) -> bool:
        """Whether any is being ended."""
        return any(not killing.task.done() for killing in self._killing.values())

    @property
    def tasks(self) -> tuple[asyncio.Task[None], ...]:
        """What is under way."""
        return tuple(killing.task for killing in self._killing.values() if not killing.task.done())

    def is_killing(self, id: ContainerId) -> bool:
        """Whether this one is being ended."""
        killing = self._killing.get(id)
        return killing is not None and not killing.task.done()

    def kill(
        self,
        pod: Pod | None,
        record: ContainerRecord,
        state: PodState,
        grace: int,
        message: str = "",
        wait_for: tuple[ContainerId, ...] = (),
    ) -> None:
        """Begin to end a container, unless it is already to be gone by then. `wait_for` are to end first (sidecars end last)."""
        deadline = asyncio.get_running_loop().time() + grace
        known = self._killing.get(record.id)
        if known is not None and not _failed(known.task):
            if known.task.done() or known.deadline <= deadline + 1:
                return
            known.task.cancel()
        work = self._kill(pod, record, state, grace, message, wait_for)
        self._killing[record.id] = _Killing(deadline, self._tasks.spawn(work, f"kill {record.name}"))

    async def kill_and_wait(self, pod: Pod, kills: tuple[Kill, ...], state: PodState) -> None:
        """End these, and come back when they have ended."""
        for kill in kills:
            grace = kill.grace if kill.grace is not None else grace_of(pod, kill.container)
            self.kill(pod, kill.container, state, grace, kill.message)
        tasks = [self._killing[k.container.id].task for k in kills if k.container.id in self._killing]
        if tasks:
            await asyncio.wait(tasks)

    def kill_all(self, pod: Pod | None, state: PodState, grace: int | None = None) -> None:
        """Begin to end all that runs: sidecars after the others, the last declared first."""
        sidecars = [c.name for c in pod.spec.initContainers if is_sidecar(c)] if pod is not None else []
        running = state.running
        before = tuple(r.id for r in running if r.name not in sidecars)
        for record in running:
            if record.name not in sidecars:
                self.kill(pod, record, state, grace if grace is not None else grace_of(pod, record))
        for name in reversed(sidecars):
            for record in (r for r in running if r.name == name):
                self.kill(pod, record, state, grace if grace is not None else grace_of(pod, record), wait_for=before)
                before = (*before, record.id)

    async def close(self) -> None:
        """Stop waiting for the ends. Signals that were sent stay sent; the next agent goes on from there, so that nobody waits out a
        grace period at the server's end."""
        await cancel(*(killing.task for killing in self._killing.values()))

    async def _kill(
        self, pod: Pod | None, record: ContainerRecord, state: PodState, grace: int, message: str, wait_for: tuple[ContainerId, ...]
    ) -> None:
        tools = self._tools
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        if pod is not None:
            field = "initContainers" if any(c.name == record.name for c in pod.spec.initContainers) else "containers"
            say = message or f"Stopping container {record.name}"
            tools.events.record(pod, "Normal", "Killing", say, field_path=f"spec.{field}{{{record.name}}}")
        hook = _pre_stop(pod, record)
        if hook is not None and grace > 0:
            container = _container(pod, record.name) or Container(name=record.name)
            ips = state.sandbox.ips if state.sandbox is not None else ()
            try:
                async with asyncio.timeout(grace):
                    outcome = await self._steps.run_hook(hook, container, record.id, ips, float(grace))
            except TimeoutError:
                pass  # the hook has used the grace period up; the container gets the shortest one
            else:
                if not outcome.ok and pod is not None:
                    tools.events.record(pod, "Warning", "FailedPreStopHook", f"PreStopHook failed: {outcome.text}"[:1024])
        first = [self._killing[id].task for id in wait_for if id in self._killing]
        if first:
            await asyncio.wait(first, timeout=max(0.0, deadline - loop.time()))
        left = max(round(deadline - loop.time()), _SHORTEST_GRACE if grace >= _SHORTEST_GRACE else grace)
        await tools.cri.stop_container(record.id, left)


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def grace_of(pod: Pod | None, record: ContainerRecord) -> int:
    """Seconds that a container has to end: what its deletion says, its pod, or its own annotations when the pod's object is gone."""
    if pod is not None:
        if pod.metadata.deletionGracePeriodSeconds is not None:
            return pod.metadata.deletionGracePeriodSeconds
        if pod.spec.terminationGracePeriodSeconds is not None:
            return pod.spec.terminationGracePeriodSeconds
    return record.grace_period if record.grace_period is not None else 30


def _container(pod: Pod | None, name: str) -> Container | None:
    if pod is None:
        return None
    return next((c for c in (*pod.spec.containers, *pod.spec.initContainers) if c.name == name), None)


def _pre_stop(pod: Pod | None, record: ContainerRecord) -> LifecycleHandler | None:
    container = _container(pod, record.name)
    if container is not None:
        return container.lifecycle.preStop if container.lifecycle is not None else None
    return msgspec.json.decode(record.pre_stop, type=LifecycleHandler) if record.pre_stop else None
