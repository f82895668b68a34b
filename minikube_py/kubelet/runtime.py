"""What the runtime has of pods, as frozen values: the observing half of a sync.

A sync costs two list calls; a container's full status is asked for only when its state has changed since it was last seen, since what has
exited never changes. How a container ended is read from its termination message file at that moment. A container has ended, here, when
its log is whole too: whoever reads it then reads all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.kubelet import logs, state
from minikube_py.kubelet.state import ContainerId, ContainerRecord, PodState, RunState, SandboxId, SandboxRecord

_STATES = {
    v1.CONTAINER_CREATED: RunState.CREATED,
    v1.CONTAINER_RUNNING: RunState.RUNNING,
    v1.CONTAINER_EXITED: RunState.EXITED,
    v1.CONTAINER_UNKNOWN: RunState.UNKNOWN,
}
_NANO = 1e9
_MESSAGE_LIMIT = 4096
_LOG_MESSAGE_BYTES = 2048
_LOG_MESSAGE_LINES = 80
_LAST_LINES_SECONDS = 1.0


class Observer:
    """Reads pods off the runtime. Raises CriError."""

    def __init__(self, cri: CriClient) -> None:
        self._cri = cri
        self._containers: dict[str, ContainerRecord] = {}
        self._sandboxes: dict[str, SandboxRecord] = {}

    async def pod(self, uid: str) -> PodState:
        """One pod as it is now."""
        labels = state.pod_labels(uid)
        sandboxes, containers = await asyncio.gather(
            self._cri.list_pod_sandboxes(v1.PodSandboxFilter(label_selector=labels)),
            self._cri.list_containers(v1.ContainerFilter(label_selector=labels)),
        )
        return await self._build(uid, sandboxes, containers)

    async def pods(self) -> dict[str, PodState]:
        """All pods of the runtime that bear a pod's labels, by UID."""
        sandboxes, containers = await asyncio.gather(self._cri.list_pod_sandboxes(), self._cri.list_containers())
        by_uid: dict[str, tuple[list[Any], list[Any]]] = {}
        for sandbox in sandboxes:
            if uid := sandbox.labels.get(state.POD_UID, ""):
                by_uid.setdefault(uid, ([], []))[0].append(sandbox)
        for container in containers:
            if uid := container.labels.get(state.POD_UID, ""):
                by_uid.setdefault(uid, ([], []))[1].append(container)
        known = {c.id for c in containers} | {s.id for s in sandboxes}
        self._containers = {k: v for k, v in self._containers.items() if k in known}
        self._sandboxes = {k: v for k, v in self._sandboxes.items() if k in known}
        return {uid: await self._build(uid, *found) for uid, found in by_uid.items()}

    def forget(self, pod: PodState) -> None:
        """The pod is gone: drop what is remembered of it."""
        for container in pod.containers:
            self._containers.pop(container.id, None)
        for sandbox in pod.sandboxes:
            self._sandboxes.pop(sandbox.id, None)

    async def _build(self, uid: str, sandboxes: Iterable[Any], containers: Iterable[Any]) -> PodState:
        sandbox_records: list[SandboxRecord] = []
        container_records: list[ContainerRecord] = []
        name = namespace = ""
        for sandbox in sandboxes:
            name, namespace = sandbox.metadata.name, sandbox.metadata.namespace
            if (record := await self._sandbox(sandbox)) is not None:
                sandbox_records.append(record)
        for container in containers:
            name = name or container.labels.get(state.POD_NAME, "")
            namespace = namespace or container.labels.get(state.POD_NAMESPACE, "")
            if (found := await self._container(container)) is not None:
                container_records.append(found)
        sandbox_records.sort(key=lambda s: (s.created_at, s.attempt), reverse=True)
        container_records.sort(key=lambda c: (c.created_at, c.attempt), reverse=True)
        return PodState(uid=uid, name=name, namespace=namespace, sandboxes=tuple(sandbox_records), containers=tuple(container_records))

    async def _sandbox(self, listed: Any) -> SandboxRecord | None:
        ready = listed.state == v1.SANDBOX_READY
        known = self._sandboxes.get(listed.id)
        if known is not None and known.ready == ready:
            return known
        try:
            status = (await self._cri.pod_sandbox_status(listed.id)).status
        except errors.NotFound:
            return None
        ips = tuple(ip for ip in (status.network.ip, *(p.ip for p in status.network.additional_ips)) if ip)
        if not ips and known is not None:
            ips = known.ips
        record = SandboxRecord(
            id=SandboxId(listed.id),
            ready=status.state == v1.SANDBOX_READY,
            attempt=listed.metadata.attempt,
            created_at=listed.created_at / _NANO,
            ips=ips,
            host_network=status.linux.namespaces.options.network == v1.NODE,
        )
        self._sandboxes[listed.id] = record
        return record

    async def _container(self, listed: Any) -> ContainerRecord | None:
        known = self._containers.get(listed.id)
        now = _STATES[listed.state]
        if known is not None and known.state is now and now is not RunState.UNKNOWN:
            return known
        try:
            status = await self._cri.container_status(listed.id)
        except errors.NotFound:
            return None
        record = await _record(listed, status)
        self._containers[listed.id] = record
        return record


async def _record(listed: Any, status: Any) -> ContainerRecord:
    annotations = status.annotations
    run_state = _STATES[status.state]
    message = status.message
    if run_state is RunState.EXITED:
        message = await asyncio.to_thread(_termination_message, status) or message
    grace = annotations.get(state.DELETION_GRACE_PERIOD) or annotations.get(state.GRACE_PERIOD)
    user = status.user.linux if status.HasField("user") and status.user.HasField("linux") else None
    return ContainerRecord(
        id=ContainerId(status.id),
        name=status.labels.get(state.CONTAINER_NAME, "") or status.metadata.name,
        sandbox_id=SandboxId(listed.pod_sandbox_id),
        state=run_state,
        attempt=int(annotations.get(state.RESTART_COUNT, status.metadata.attempt)),
        created_at=status.created_at / _NANO,
        started_at=status.started_at / _NANO,
        finished_at=status.finished_at / _NANO,
        exit_code=status.exit_code,
        reason=status.reason,
        message=message,
        image=status.image.image,
        image_id=status.image_ref,
        hash=annotations.get(state.HASH, ""),
        log_path=status.log_path,
        grace_period=int(grace) if grace else None,
        pre_stop=annotations.get(state.PRE_STOP, ""),
        user=(user.uid, user.gid, tuple(user.supplemental_groups)) if user is not None else None,
        made_with=state.decode_amounts(annotations.get(state.RESOURCES, "")),
    )


def _termination_message(status: Any) -> str:
    """What the container left in its termination message file, or the end of its log where that is asked for. Blocking."""
    path = status.annotations.get(state.TERMINATION_PATH, "")
    policy = status.annotations.get(state.TERMINATION_POLICY, "")
    if status.log_path:
        logs.wait_whole(Path(status.log_path), _LAST_LINES_SECONDS)
    text = ""
    host = next((mount.host_path for mount in status.mounts if mount.container_path == path), "") if path else ""
    if host:
        try:
            with open(host, "rb") as file:
                text = file.read(_MESSAGE_LIMIT).decode("utf-8", "replace")
        except OSError as error:
            text = f"Error on reading termination log {host}: {error.strerror}"
    if not text and policy == "FallbackToLogsOnError" and status.exit_code != 0 and status.log_path:
        text = logs.tail_text(Path(status.log_path), _LOG_MESSAGE_BYTES, _LOG_MESSAGE_LINES)
    return text
