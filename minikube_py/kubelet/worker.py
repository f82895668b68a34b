"""One pod's worker: observe, plan, take steps, write the status, each time it is woken. It never asks what woke it.

A worker goes through two lives. While the pod is to run, a task takes the plan's steps (they may wait for a pull or a hook) and the worker
itself stays free to write the status and to notice a deletion. Once the pod is to end, which is never taken back, steps are cut short,
containers are ended with their grace, what the pod used is given back, the last status is written, and the object deleted for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from minikube_py.aio import Backoff, cancel, wait_at_most
from minikube_py.client.transport import TransportError
from minikube_py.cri import errors
from minikube_py.kubelet import garbage, logs, metrics, resize
from minikube_py.kubelet import plan as planning
from minikube_py.kubelet import status as statuses
from minikube_py.kubelet.admission import is_static
from minikube_py.kubelet.killing import Killer
from minikube_py.kubelet.objects import ObjectsUnavailable
from minikube_py.kubelet.plan import Plan, Waiting
from minikube_py.kubelet.state import PodState, RunState
from minikube_py.kubelet.statuswriter import StatusWriter
from minikube_py.kubelet.steps import ResizeError, StepError, Steps
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.volumes import manager
from minikube_py.meta.errors import Conflict, NotFound, StatusError
from minikube_py.types.meta import parse_timestamp, timestamp
from minikube_py.types.pod import Container, Pod

log = logging.getLogger(__name__)

_RESIZE_RETRY_SECONDS = 3.0
_GAP_SECONDS = 1.0
_TERMINAL = ("Succeeded", "Failed")


class Ending(NamedTuple):
    """Why a pod ends; the phase and its words where they were decided on, empty where the containers' ends decide."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    rejected: bool = False
    """The node has not taken the pod: nothing of it was ever begun."""
    grace: int | None = None
    """Seconds that the containers have at most, where it is not for the pod to say."""
    disruption: bool = False
    """Whether the pod gets the condition DisruptionTarget: it ends for the node's sake, not its own."""


class PodWorker:
    """The worker of one UID. `run` ends when nothing of the pod is left, in the API nor on the node."""

    def __init__(self, tools: Tools, uid: str, pod: Pod | None) -> None:
        self.uid = uid
        self._tools = tools
        self._steps = Steps(tools)
        self._killer = Killer(tools, self._steps, uid)
        self._woken = asyncio.Event()
        self._pod = pod
        self._writer = StatusWriter(tools)
        self._ending: Ending | None = None
        self._starting: asyncio.Task[None] | None = None
        self._replaced: set[str] = set()
        self._waiting: dict[str, Waiting] = {}
        self._not_before = 0.0
        self._backed_off: set[str] = set()
        self._subscribers: set[asyncio.Event] = set()
        self._counted: frozenset[str] | None = None
        self._start_time = timestamp(tools.clock.time())
        self.state = PodState(uid=uid)
        self.finished = False
        self.settled = asyncio.Event()
        """Set once the pod has ended and given back what it used."""

    @property
    def pod(self) -> Pod | None:
        """The pod as it was last seen."""
        return self._pod

    @property
    def ending(self) -> bool:
        """Whether the pod is to end."""
        return self._ending is not None

    @property
    def reclaimed(self) -> bool:
        """Whether nothing of the pod runs or will run, and what it used was given back."""
        return self.settled.is_set()

    @property
    def waiting(self) -> Mapping[str, Waiting]:
        """Why containers do not run, by name."""
        return self._waiting

    def subscribe(self) -> asyncio.Event:
        """An event that is set whenever the pod was looked at; `unsubscribe` it."""
        event = asyncio.Event()
        self._subscribers.add(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """The event is not needed any more."""
        self._subscribers.discard(event)

    def wake(self) -> None:
        """Something may have changed."""
        self._woken.set()

    def end(self, ending: Ending) -> None:
        """The pod is to end, for a reason that is not its own. One that ends already may get less time for it, and no other words."""
        if self._ending is None:
            self._ending = ending
        elif ending.grace is not None and (self._ending.grace is None or ending.grace < self._ending.grace):
            self._ending = self._ending._replace(grace=ending.grace)
        self._woken.set()

    def retry_now(self) -> None:
        """What the last steps failed on may have changed: do not wait for the next try."""
        self._not_before = 0.0
        self._woken.set()

    async def run(self) -> None:
        """Work until nothing is left."""
        backoff = Backoff(first=0.25, limit=10.0)
        self._woken.set()
        delay: float | None = None
        try:
            while not self.finished:
                await wait_at_most(self._woken, delay)
                self._woken.clear()
                try:
                    delay = await self._sync()
                    backoff.reset()
                except (errors.CriError, StatusError, TransportError, OSError) as error:
                    log.warning("pod sync failed", extra={"pod": self._name, "uid": self.uid, "error": str(error)})
                    delay = backoff.next()
                except Exception:
                    log.exception("pod sync failed", extra={"pod": self._name, "uid": self.uid})
                    delay = backoff.next()
                for event in self._subscribers:
                    event.set()
        finally:
            if self._starting is not None:
                await cancel(self._starting)
            await self._killer.close()

    @property
    def _name(self) -> str:
        return self._pod.key if self._pod is not None else f"{self.state.namespace}/{self.state.name}"

    async def _sync(self) -> float | None:
        """One round; the seconds after which to look again, if at all."""
        present = self._look()
        self.state = await self._tools.observer.pod(self.uid)
        pod = self._pod
        if pod is not None:
            self._count_ended(pod)
        if pod is not None and present and not self.state.sandboxes and is_static(pod) and self._tools.is_blocked(pod):
            return None  # woken when the pod of before has ended
        if self._ending is None:
            self._ending = self._why_end(present)
        if pod is None or self._ending is not None:
            return await self._end(present)
        return await self._keep(self._tools.allocations.grant(pod))

    def _count_ended(self, pod: Pod) -> None:
        """Each container once, when it is first seen to have ended."""
        counted = metrics.told_as_ended(pod) if self._counted is None else self._counted
        for record in metrics.ended_since(self.state, counted):
            kind = metrics.container_type(pod, record.name)
            self._tools.metrics.count("kubelet_terminated_containers_total", kind, str(record.exit_code), record.reason)
        self._counted = frozenset(record.id for record in self.state.containers if record.state is RunState.EXITED)

    def _look(self) -> bool:
        """Take over the pod as the API has it; whether it has it at all. Our own last write counts when the informer is behind it."""
        seen = self._tools.pod_by_uid(self.uid)
        if seen is None:
            return False
        if self._pod is None or _revision(seen) >= _revision(self._pod):
            self._pod = seen
        return True

    def _why_end(self, present: bool) -> Ending | None:
        pod = self._pod
        if pod is None or not present or pod.metadata.deletionTimestamp is not None:
            return Ending()
        if pod.status.phase in _TERMINAL:
            return Ending()
        if (left := self._deadline_left(pod)) is not None and left <= 0:
            message = "Pod was active on the node longer than the specified deadline"
            self._tools.events.record(pod, "Normal", "DeadlineExceeded", message)
            return Ending("Failed", "DeadlineExceeded", message)
        rejection = self._tools.allocations.admit(pod, started=bool(self.state.sandboxes or self.state.containers))
        if rejection is not None:
            self._tools.events.record(pod, "Warning", rejection.reason, rejection.message)
            self._tools.metrics.rejected(rejection.reason)
            return Ending("Failed", rejection.reason, f"Pod was rejected: {rejection.message}", rejected=True)
        return None

    def _deadline_left(self, pod: Pod) -> float | None:
        if pod.spec.activeDeadlineSeconds is None:
            return None
        started = parse_timestamp(pod.status.startTime or self._start_time)
        return started + pod.spec.activeDeadlineSeconds - self._tools.clock.time()

    # A pod that is to run

    async def _keep(self, pod: Pod) -> float | None:
        tools, now = self._tools, self._tools.clock.time()
        verdicts = tools.probes.verdicts(self.uid)
        plan = planning.compute(pod, self.state, verdicts, tools.restarts, now, self._resize(pod))
        busy = self._starting is not None and not self._starting.done()
        if plan.kill_pod and not plan.create_sandbox and not busy and not plan.waiting:
            self._ending = Ending()
            return await self._end(True)
        if not busy:
            await self._collect_garbage()
            self._say_back_off(pod, plan)
            self._waiting = {**{k: v for k, v in self._waiting.items() if self._still_waits(pod, k)}, **plan.waiting}
        tools.allocations.progress(pod, plan.resize.due)
        delays = [plan.again_after, self._deadline_left(pod), self._token_delay(now)]
        if tools.allocations.is_pending(self.uid):
            delays.append(resize.RETRY_SECONDS)
        if not plan.idle and not busy:
            if now >= self._not_before:
                self._replaced = {kill.container.name for kill in plan.kills} & {container.name for container in plan.start}
                self._starting = asyncio.create_task(self._start(pod, plan), name=f"start {pod.metadata.namespace}/{pod.metadata.name}")
            else:
                delays.append(self._not_before - now)
        elif not busy:
            await self._refresh(pod)
        tools.probes.follow(pod, self.state, tools.options.node_ips)
        if busy and (gap := self._gap_left(now)) > 0:
            delays.append(gap)
        else:
            await self._write(pod, self._status(pod))
        return min((d for d in delays if d is not None), default=None)

    def _gap_left(self, now: float) -> float:
        """Seconds for which the status waits: a container that is replaced is between its end and its start, and upstream's never tells."""
        records = (self.state.of(name) for name in self._replaced)
        ended = [record.finished_at for record in records if record is not None and record.state is RunState.EXITED]
        return max(ended) + _GAP_SECONDS - now if ended else 0.0

    def _resize(self, pod: Pod) -> resize.Resize:
        allocations = self._tools.allocations
        return resize.compute(pod, self.state, lambda record: allocations.actuated(self.uid, record), allocations.actuated_pod(self.uid))

    async def _collect_garbage(self) -> None:
        found = garbage.find(self.state)
        for record in found.containers:
            await self._tools.cri.remove_container(record.id)
            if record.log_path:
                await asyncio.to_thread(logs.remove_logs, Path(record.log_path))
        for sandbox in found.sandboxes:
            await self._tools.cri.remove_pod_sandbox(sandbox.id)
        if found.containers or found.sandboxes:
            self.state = await self._tools.observer.pod(self.uid)

    def _say_back_off(self, pod: Pod, plan: Plan) -> None:
        """Once for every time that a container is held back."""
        for name in plan.waiting:
            record = self.state.of(name)
            if record is None or record.id in self._backed_off:
                continue
            self._backed_off = {record.id, *(id for id in self._backed_off if any(c.id == id for c in self.state.containers))}
            meta = pod.metadata
            message = f"Back-off restarting failed container {name} in pod {meta.name}_{meta.namespace}({self.uid})"
            self._tools.events.record(pod, "Warning", "BackOff", message, field_path=f"spec.containers{{{name}}}")

    def _still_waits(self, pod: Pod, name: str) -> bool:
        container = _container(pod, name)
        return container is not None and planning.should_restart(pod, container, self.state.of(name)) and name not in self._running_names()

    def _running_names(self) -> set[str]:
        return {record.name for record in self.state.containers if record.running}

    def _token_delay(self, now: float) -> float | None:
        due = self._tools.tokens.renew_at(self.uid)
        return None if due is None else max(1.0, due - now)

    async def _refresh(self, pod: Pod) -> None:
        try:
            await self._steps.refresh(pod, self.state)
        except (manager.VolumeError, StatusError, TransportError, ObjectsUnavailable, OSError) as error:
            log.warning("volumes not refreshed", extra={"pod": self._name, "error": str(error)})
            self._tools.events.record(pod, "Warning", "FailedMount", str(error))

    async def _start(self, pod: Pod, plan: Plan) -> None:
        """The task that takes the plan's steps. It wakes the worker after each step that the status shows, and at its end."""
        tools = self._tools
        try:
            state = self.state
            if plan.kill_pod:
                self._killer.kill_all(pod, state)
                await self._killer.kill_and_wait(pod, tuple(planning.Kill(r, "") for r in state.running), state)
                for sandbox in state.sandboxes:
                    await tools.cri.stop_pod_sandbox(sandbox.id)
                if state.sandboxes:
                    message = "Pod sandbox changed, it will be killed and re-created."
                    tools.events.record(pod, "Normal", "SandboxChanged", message)
            elif plan.kills:
                await self._killer.kill_and_wait(pod, plan.kills, state)
            elif plan.reset:
                await self._reset(pod, plan)
            if plan.resize.due:
                try:
                    await self._steps.resize_pod(pod, state, plan.resize)
                except ResizeError as error:
                    tools.allocations.failed(pod, str(error))
                    self._not_before = tools.clock.time() + _RESIZE_RETRY_SECONDS
            if not plan.create_sandbox and not plan.start:
                return
            cgroup, paths = await self._steps.prepare(pod)
            if plan.create_sandbox:
                await self._steps.create_sandbox(pod, plan.attempt, cgroup)
                state = await self._observe()
            elif plan.kills:
                state = await self._observe()
            await self._start_containers(pod, plan, state, cgroup, paths)
        except StepError as error:
            self._failed(error)
        finally:
            self._starting = None
            self._woken.set()

    async def _reset(self, pod: Pod, plan: Plan) -> None:
        """Take all containers of the pod away; they start anew at the next round."""
        tools, cause = self._tools, plan.reset[-1]
        tools.restarts.next(planning.backoff_key(pod, cause.name), cause.finished_at, tools.clock.time())
        await self._killer.kill_and_wait(pod, tuple(planning.Kill(r, "") for r in plan.reset if r.state is not RunState.EXITED), self.state)
        await self._write(pod, self._status(pod))
        for record in plan.reset:
            await tools.cri.remove_container(record.id)

    async def _start_containers(self, pod: Pod, plan: Plan, state: PodState, cgroup: str, paths: dict[str, str]) -> None:
        ips = statuses.pod_ips(pod, state, self._tools.options.node_ips)
        problems: list[StepError] = []
        for container in plan.start:
            self._waiting.pop(container.name, None)
            kind = metrics.container_type(pod, container.name)
            self._tools.metrics.count("kubelet_started_containers_total", kind)
            try:
                await self._steps.start_container(pod, container, state, cgroup, paths, ips)
            except StepError as error:
                problems.append(error)
                if error.waiting is not None:
                    self._tools.metrics.count("kubelet_started_containers_errors_total", error.waiting.reason, kind)
                self._failed(error)
            self._woken.set()
        if problems:
            self._not_before = self._tools.clock.time() + min(p.again_after for p in problems)

    def _failed(self, error: StepError) -> None:
        if error.waiting is not None:
            self._waiting[error.container] = error.waiting
        self._not_before = self._tools.clock.time() + error.again_after

    async def _observe(self) -> PodState:
        self.state = await self._tools.observer.pod(self.uid)
        self._woken.set()
        return self.state

    # A pod that is to end

    async def _end(self, present: bool) -> float | None:
        tools, pod = self._tools, self._pod
        if self._starting is not None:
            await cancel(self._starting)
            self._starting = None
            self.state = await tools.observer.pod(self.uid)
        if self.state.running:
            if pod is not None:
                tools.probes.follow(pod, self.state, tools.options.node_ips)
            self._killer.kill_all(pod, self.state, self._grace(pod) if present else self._forced_grace())
            if pod is not None and present:
                await self._write(pod, self._status(pod))
            self._wake_after_kills()
            return None
        if not self.reclaimed:
            await self._reclaim()
        if pod is not None and present:
            await self._write(pod, self._status(pod, lost=True))
            if pod.metadata.deletionTimestamp is not None:
                await self._delete(pod)
            return None
        await self._forget()
        return None

    def _grace(self, pod: Pod | None) -> int | None:
        """Seconds for every container, where less is left than the pod would take."""
        limit = self._ending.grace if self._ending is not None else None
        if limit is None or pod is None:
            return limit
        own = pod.metadata.deletionGracePeriodSeconds
        own = pod.spec.terminationGracePeriodSeconds if own is None else own
        return limit if own is None else min(limit, own)

    def _forced_grace(self) -> int | None:
        """A pod whose object went under our eyes was force-deleted, which means a second here; one that went while nobody watched gets the
        grace that its containers' annotations say. A static pod whose manifest went has the grace that it gave itself."""
        return 1 if self._pod is not None and not is_static(self._pod) else None

    def _wake_after_kills(self) -> None:
        for task in self._killer.tasks:
            task.add_done_callback(lambda _: self._woken.set())

    async def _reclaim(self) -> None:
        """Give back what the pod used: network, volumes, cgroup. Idempotent."""
        tools = self._tools
        tools.probes.stop(self.uid)
        for sandbox in self.state.sandboxes:
            if sandbox.ready:
                await tools.cri.stop_pod_sandbox(sandbox.id)
        await manager.teardown(tools.options.pod_dir(self.uid), tools.image_filesystems)
        await asyncio.to_thread(tools.cgroups.remove_pod, self.uid)
        tools.config_maps.release(self.uid)
        tools.secrets.release(self.uid)
        tools.tokens.release(self.uid)
        tools.claims.release(self.uid)
        tools.images.release(self.uid)
        tools.restarts.forget(self.uid + "_")
        self.state = await tools.observer.pod(self.uid)
        tools.allocations.forget(self.uid)
        self.settled.set()

    async def _delete(self, pod: Pod) -> None:
        """The last word: the object goes."""
        try:
            await self._tools.client.delete(Pod, pod.metadata.name, pod.metadata.namespace, grace_seconds=0, uid=self.uid)
        except (NotFound, Conflict):
            self._woken.set()

    async def _forget(self) -> None:
        """The object is gone: remove containers, logs and directories."""
        tools, state = self._tools, self.state
        for container in state.containers:
            await tools.cri.remove_container(container.id)
        for sandbox in state.sandboxes:
            await tools.cri.stop_pod_sandbox(sandbox.id)
            await tools.cri.remove_pod_sandbox(sandbox.id)
        # the pod's directory goes last: while it is there, whoever finds it after a crash goes on from here
        await asyncio.to_thread(logs.remove_pod_logs, tools.options.log_dir, self.uid)
        await manager.remove(tools.options.pod_dir(self.uid), tools.image_filesystems)
        tools.observer.forget(state)
        self.finished = True

    # Status

    def _status(self, pod: Pod, *, lost: bool = False) -> statuses.Status:
        ending, allocations = self._ending, self._tools.allocations
        facts = statuses.Facts(
            verdicts=self._tools.probes.verdicts(self.uid),
            waiting=self._waiting,
            host_ips=self._tools.options.node_ips,
            now=self._tools.clock.time(),
            ending=ending is not None,
            phase=ending.phase if ending is not None else "",
            reason=ending.reason if ending is not None else "",
            message=ending.message if ending is not None else "",
            disrupted=ending is not None and ending.disruption,
            start_time=self._start_time,
            lost=lost,
            rejected=ending is not None and ending.rejected,
            amounts={r.id: a for r in self.state.running if (a := allocations.actuated(self.uid, r)) is not None},
            whole=allocations.actuated_pod(self.uid),
            resize=() if ending is not None else allocations.conditions(self.uid),
        )
        return statuses.generate(allocations.granted(pod), self.state, facts)

    async def _write(self, pod: Pod, status: statuses.Status) -> None:
        """Patch the API's status where it is another one."""
        patched = await self._writer.write(pod, status)
        if patched is not None and _revision(patched) > _revision(self._pod or pod):
            self._pod = patched


def _revision(pod: Pod) -> int:
    return int(pod.metadata.resourceVersion or 0)


def _container(pod: Pod, name: str) -> Container | None:
    return next((c for c in (*pod.spec.containers, *pod.spec.initContainers, *pod.spec.ephemeralContainers) if c.name == name), None)
