"""What the node has granted its pods: admission of new ones, and of resizes, which wait in order until there is room.

What flows through: a worker asks `admit` before a pod's first step and `grant` at every sync; what was granted, and what running containers
were given since they were made, lies in `resources.json` in the pod's directory, so that a later agent goes on from there. What always
holds: the sum of what is granted fits the node; a decision is made over all pods at once, never while another one is being made.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from minikube_py.aio import Clock
from minikube_py.control import EventRecorder
from minikube_py.kubelet import admission, resize
from minikube_py.kubelet.admission import Handler, Host, Rejection
from minikube_py.kubelet.resize import Allocation
from minikube_py.kubelet.resources import Amounts
from minikube_py.kubelet.state import ContainerRecord
from minikube_py.types.meta import timestamp
from minikube_py.types.pod import Pod, ResourceRequirements

log = logging.getLogger(__name__)

_FILE = "resources.json"
PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"


class _Checkpoint(msgspec.Struct, frozen=True):
    allocation: Allocation
    updated: dict[str, Amounts]
    pod: ResourceRequirements | None = None


class _Known(msgspec.Struct):
    allocation: Allocation
    updated: dict[str, Amounts] = msgspec.field(default_factory=dict)
    """What containers were given since they were made, by id."""
    actuated_pod: ResourceRequirements | None = None
    conditions: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    unsaved: bool = True


class Allocations:
    """The allocations of all pods of the node.

    `active()` are the pods that have not ended, with the specs that they ask for; `wake` wakes a pod's worker.
    """

    def __init__(
        self,
        directory: Callable[[str], Path],
        events: EventRecorder,
        clock: Clock,
        active: Callable[[], Iterable[Pod]],
        host: Callable[[], Host],
        wake: Callable[[str], None],
    ) -> None:
        self._directory, self._events, self._clock = directory, events, clock
        self._active, self._host, self._wake = active, host, wake
        self.handlers: tuple[Handler, ...] = (self._judge,)
        """Who may refuse a pod of which nothing was ever started, in the order in which they are asked."""
        self._known: dict[str, _Known] = {}
        self._pending: set[str] = set()

    def load(self, uids: Iterable[str]) -> None:
        """Read what an earlier agent has left of these pods. Blocks."""
        for uid in uids:
            with contextlib.suppress(FileNotFoundError):
                data = (self._directory(uid) / _FILE).read_bytes()
                try:
                    found = msgspec.json.decode(data, type=_Checkpoint)
                except msgspec.MsgspecError as error:
                    log.warning("allocation not read", extra={"uid": uid, "error": str(error)})
                else:
                    self._known[uid] = _Known(found.allocation, found.updated, found.pod, unsaved=False)

    def save(self, uid: str) -> None:
        """Write a pod's allocation where it has changed; its directory exists. Blocks. Raises OSError."""
        known = self._known.get(uid)
        if known is None or not known.unsaved:
            return
        known.unsaved = False
        path = self._directory(uid) / _FILE
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(_Checkpoint(known.allocation, known.updated, known.actuated_pod)))
        os.replace(temporary, path)

    def forget(self, uid: str) -> None:
        """The pod has ended: what was granted to it is free for those that wait."""
        if self._known.pop(uid, None) is not None:
            self._pending.discard(uid)
            self.retry()

    # Pods

    def admit(self, pod: Pod, started: bool) -> Rejection | None:
        """Take a pod, once; one that has `started` was taken before. Why not, if not."""
        uid = pod.metadata.uid
        if uid in self._known:
            return None
        if not started:
            for handler in self.handlers:
                if (rejection := handler(pod)) is not None:
                    return rejection
        known = self._known[uid] = _Known(resize.allocation_of(pod), actuated_pod=pod.spec.resources)
        for condition in pod.status.conditions:
            if condition.type in (PENDING, IN_PROGRESS):
                known.conditions[condition.type] = _condition(
                    condition.type, condition.reason, condition.message, condition.observedGeneration, condition.lastTransitionTime or ""
                )
        return None

    def _judge(self, pod: Pod) -> Rejection | None:
        return admission.judge(pod, self._others(pod.metadata.uid), self._host())

    def _others(self, uid: str) -> list[Pod]:
        found = ((other, self._known.get(other.metadata.uid)) for other in self._active() if other.metadata.uid != uid)
        return [resize.allocated(other, known.allocation) for other, known in found if known is not None]

    # Resizes

    def grant(self, pod: Pod) -> Pod:
        """The pod as allocated, after its spec became the allocation where there is room for it."""
        known = self._known.get(pod.metadata.uid)
        if known is None:
            return pod
        if resize.allocated(pod, known.allocation) is pod:
            self._pending.discard(pod.metadata.uid)
            known.conditions.pop(PENDING, None)
            return pod
        self._pending.add(pod.metadata.uid)
        self.retry()
        return resize.allocated(pod, known.allocation)

    def granted(self, pod: Pod) -> Pod:
        """The pod as allocated, as it stands."""
        known = self._known.get(pod.metadata.uid)
        return resize.allocated(pod, known.allocation) if known is not None else pod

    def retry(self) -> None:
        """Look at all resizes that wait, in order of priority."""
        waiting = []
        for pod in self._active():
            known = self._known.get(pod.metadata.uid)
            if pod.metadata.uid in self._pending and known is not None:
                since = known.conditions.get(PENDING, {}).get("lastTransitionTime") or "~"
                waiting.append((resize.priority(pod, resize.allocated(pod, known.allocation), since), pod, known))
        for _, pod, known in sorted(waiting, key=lambda w: w[0]):
            self._try(pod, known)

    def _try(self, pod: Pod, known: _Known) -> None:
        uid, generation, now = pod.metadata.uid, pod.metadata.generation, timestamp(self._clock.time())
        rejection = admission.judge(pod, self._others(uid), self._host())
        if rejection is not None:
            # nothing but the lack of room keeps a resize waiting here, and room may come
            before = known.conditions.get(PENDING)
            since = before["lastTransitionTime"] if before is not None else now
            known.conditions[PENDING] = _condition(PENDING, "Deferred", rejection.message, generation, since)
            if before is None or before["observedGeneration"] != generation:
                said = f"Pod resize Deferred: {resize.summary(pod, generation, rejection.message)}"
                self._events.record(pod, "Warning", "ResizeDeferred", said)
                self._wake(uid)
            return
        known.allocation, known.unsaved = resize.allocation_of(pod), True
        self._pending.discard(uid)
        known.conditions.pop(PENDING, None)
        known.conditions[IN_PROGRESS] = _condition(IN_PROGRESS, "", "", generation, now)
        self._events.record(pod, "Normal", "ResizeStarted", f"Pod resize started: {resize.summary(pod, generation)}")
        self._wake(uid)

    def is_pending(self, uid: str) -> bool:
        """Whether a resize of the pod waits for room."""
        return uid in self._pending

    def progress(self, pod: Pod, due: bool) -> None:
        """Whether anything of the allocation is still to be given to the pod's containers."""
        known = self._known.get(pod.metadata.uid)
        if known is None:
            return
        before = known.conditions.get(IN_PROGRESS)
        if due and before is None:
            now = timestamp(self._clock.time())
            known.conditions[IN_PROGRESS] = _condition(IN_PROGRESS, "", "", pod.metadata.generation, now)
        elif not due and before is not None:
            del known.conditions[IN_PROGRESS]
            said = f"Pod resize completed: {resize.summary(pod, before['observedGeneration'])}"
            self._events.record(pod, "Normal", "ResizeCompleted", said)
            self.retry()

    def failed(self, pod: Pod, message: str) -> None:
        """A step of a resize did not work; it is tried again."""
        known = self._known.get(pod.metadata.uid)
        before = known.conditions.get(IN_PROGRESS) if known is not None else None
        if known is None or before is None or before["message"] == message:
            return
        generation = before["observedGeneration"]
        known.conditions[IN_PROGRESS] = _condition(IN_PROGRESS, "Error", message, generation, before["lastTransitionTime"])
        self._events.record(pod, "Warning", "ResizeError", f"Pod resize error: {resize.summary(pod, generation, message)}")

    def conditions(self, uid: str) -> tuple[dict[str, Any], ...]:
        """The pod's conditions that tell of its resize."""
        known = self._known.get(uid)
        return tuple(known.conditions.values()) if known is not None else ()

    # What containers have

    def actuated(self, uid: str, record: ContainerRecord) -> Amounts | None:
        """What a container has; None where nobody knows."""
        known = self._known.get(uid)
        return known.updated.get(record.id, record.made_with) if known is not None else record.made_with

    def actuated_pod(self, uid: str) -> ResourceRequirements | None:
        """What the pod as a whole has."""
        known = self._known.get(uid)
        return known.actuated_pod if known is not None else None

    def updated(self, uid: str, record: ContainerRecord, given: Amounts) -> None:
        """A container was given other amounts."""
        if (known := self._known.get(uid)) is not None:
            known.updated[record.id], known.unsaved = given, True

    def updated_pod(self, pod: Pod, running: Iterable[str]) -> None:
        """The pod as a whole was given what it was granted; `running` are the ids of its containers."""
        if (known := self._known.get(pod.metadata.uid)) is not None:
            ids = set(running)
            known.updated = {id: given for id, given in known.updated.items() if id in ids}
            known.actuated_pod, known.unsaved = pod.spec.resources, True


def _condition(type_: str, reason: str, message: str, generation: int, since: str) -> dict[str, Any]:
    return {
        "type": type_,
        "status": "True",
        "reason": reason,
        "message": message,
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }
