"""Probe workers: one task for each probe of each running container. Their verdicts wake the pod's worker, which plans with them.

A worker lives as long as its container runs. Startup probes hold the other two back until they succeed, and then stop. A failed liveness
or startup probe says so once and waits for its container to be replaced.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from minikube_py.aio import Tasks, cancel
from minikube_py.control import EventRecorder
from minikube_py.kubelet import probing
from minikube_py.kubelet.handlers import Handlers, Outcome
from minikube_py.kubelet.metrics import Metrics
from minikube_py.kubelet.plan import Verdict, Verdicts
from minikube_py.kubelet.resources import is_sidecar
from minikube_py.kubelet.state import ContainerRecord, PodState
from minikube_py.types.handlers import Probe
from minikube_py.types.pod import Container, Pod


class _Key(NamedTuple):
    uid: str
    container_id: str
    kind: str


class Probes:
    """All probe workers of the node."""

    def __init__(self, handlers: Handlers, events: EventRecorder, wake: Callable[[str], None], metrics: Metrics) -> None:
        self._handlers, self._events, self._wake, self._metrics = handlers, events, wake, metrics
        self._tasks = Tasks()
        self._workers: dict[_Key, asyncio.Task[Any]] = {}
        self._verdicts: dict[_Key, Verdict] = {}
        self._probed: dict[_Key, tuple[Pod, str]] = {}

    def follow(self, pod: Pod, state: PodState, host_ips: tuple[str, ...]) -> None:
        """Probe exactly the containers of the pod that run; a pod that is being deleted is probed for readiness only."""
        wanted: dict[_Key, tuple[Container, ContainerRecord, Probe]] = {}
        deleting = pod.metadata.deletionTimestamp is not None
        sidecars = tuple(c for c in pod.spec.initContainers if is_sidecar(c))
        for container in (*pod.spec.containers, *sidecars):
            record = state.of(container.name)
            if record is None or not record.running:
                continue
            for kind in ("startup", "liveness", "readiness"):
                probe: Probe | None = getattr(container, f"{kind}Probe")
                if probe is not None and not (deleting and kind != "readiness"):
                    wanted[_Key(pod.metadata.uid, record.id, kind)] = (container, record, probe)
        for key in [k for k in self._workers if k.uid == pod.metadata.uid and k not in wanted]:
            self._stop(key)
        ips = host_ips if pod.spec.hostNetwork else (state.sandbox.ips if state.sandbox is not None else ())
        for key, (container, record, probe) in wanted.items():
            if key not in self._workers:
                work = self._work(key, pod, container, record, probe, ips[0] if ips else "")
                self._workers[key] = self._tasks.spawn(work, f"{key.kind} probe {pod.metadata.name}/{container.name}")
                self._probed[key] = pod, container.name

    def verdicts(self, uid: str) -> Verdicts:
        """The verdicts on one pod's containers."""
        out = Verdicts({}, {}, {})
        for key, found in self._verdicts.items():
            if key.uid == uid:
                getattr(out, key.kind)[key.container_id] = found
        return out

    def stop(self, uid: str) -> None:
        """The pod ends: probe it no more."""
        for key in [k for k in self._workers if k.uid == uid]:
            self._stop(key)

    def _stop(self, key: _Key) -> None:
        self._workers.pop(key).cancel()
        self._verdicts.pop(key, None)
        self._metrics.forget_probes(*self._probed.pop(key), key.kind)

    async def close(self) -> None:
        """End all workers."""
        await cancel(*self._workers.values())
        await self._tasks.close()

    async def _work(self, key: _Key, pod: Pod, container: Container, record: ContainerRecord, probe: Probe, address: str) -> None:
        run = probing.Run()
        startup = _Key(key.uid, key.container_id, "startup")
        loop = asyncio.get_running_loop()
        if key.kind != "startup" and container.startupProbe is not None:
            while self._verdicts.get(startup) is not Verdict.SUCCESS:
                await self._changed(startup)
        initial = record.started_at + probe.initialDelaySeconds - _now()
        if initial > 0:
            await asyncio.sleep(initial)
        elif _now() - record.started_at > 5:
            await asyncio.sleep(random.random() * min(probe.periodSeconds, 1.0))  # after a restart of the agent: not all at once
        while True:
            began = loop.time()
            outcome = await self._probe(probe, container, record, address)
            self._metrics.probed(pod, container.name, key.kind, outcome.ok, loop.time() - began)
            if not outcome.ok:
                title = key.kind.capitalize()
                self._events.record(
                    pod, "Warning", "Unhealthy", f"{title} probe failed: {outcome.text}", field_path=f"spec.containers{{{container.name}}}"
                )
            elif outcome.warning:
                said = f"{key.kind.capitalize()} probe warning: {outcome.text}"
                self._events.record(pod, "Warning", "ProbeWarning", said, field_path=f"spec.containers{{{container.name}}}")
            run = probing.observe(run, outcome.ok)
            found = probing.verdict(run, probe)
            if found is not None and self._verdicts.get(key) is not found:
                self._verdicts[key] = found
                self._wake(key.uid)
            if (found is Verdict.FAILURE and key.kind != "readiness") or (found is Verdict.SUCCESS and key.kind == "startup"):
                return
            await asyncio.sleep(max(0.0, probe.periodSeconds - (loop.time() - began)))

    async def _changed(self, key: _Key) -> None:
        """Wait until the startup probe's worker has ended."""
        task = self._workers.get(key)
        if task is None or task.done():
            await asyncio.Event().wait()  # it failed: the container is replaced, and this worker cancelled
        else:
            await asyncio.wait([task])

    async def _probe(self, probe: Probe, container: Container, record: ContainerRecord, address: str) -> Outcome:
        timeout = float(max(probe.timeoutSeconds, 1))
        if probe.exec is not None:
            return await self._handlers.exec(record.id, probe.exec, timeout)
        if probe.httpGet is not None:
            return await self._handlers.http(probe.httpGet, address, container, timeout)
        if probe.tcpSocket is not None:
            return await self._handlers.tcp(probe.tcpSocket, address, container, timeout)
        if probe.grpc is not None:
            return await self._handlers.grpc(probe.grpc.port, probe.grpc.service, address, timeout)
        return Outcome(False, "missing probe handler")


def _now() -> float:
    import time

    return time.time()
