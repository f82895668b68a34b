"""Events about objects, as kubectl describe shows them: written in the background, repeats counted into one Event.

The rules are client-go's recorder's: the same source, object, type, reason and message within ten minutes is a repeat, which only raises
the Event's `count`; of one object at most 25 events are written in a row, then one in five minutes. What is a repeat is decided in the
order in which things were said; the writes themselves run beside one another, but for those of one Event.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

from minikube_py.aio import Clock, SystemClock, Tasks
from minikube_py.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.meta.errors import NotFound, StatusError
from minikube_py.types.core import Event
from minikube_py.types.meta import Object, timestamp

log = logging.getLogger(__name__)

_REPEAT_WINDOW = 600.0
_REMEMBERED = 4096
"""Events whose repeats are known as such, the most recent ones: as many as client-go's recorder keeps."""
_QUEUE_BOUND = 1000
_AT_ONCE = 32
"""Events that are being written at a time: one after another they would fall behind a scheduler that binds a thousand pods a second."""
_BURST = 25.0
_PER_SECOND = 1 / 300


class _Pending(NamedTuple):
    regarding: dict[str, str]
    type: str
    reason: str
    message: str
    at: float


_Identity = tuple[str, ...]


def _identity(pending: _Pending) -> _Identity:
    about = pending.regarding
    return (
        about.get("uid", ""),
        about["name"],
        about.get("namespace", ""),
        about.get("fieldPath", ""),
        pending.type,
        pending.reason,
        pending.message,
    )


class EventRecorder:
    """Records Events as one component on one host. A full queue drops events: they must never hold the work up."""

    def __init__(self, client: Client, component: str, host: str = "", clock: Clock | None = None) -> None:
        self._client, self._component, self._host, self._clock = client, component, host, clock or SystemClock()
        self._queue: asyncio.Queue[_Pending] = asyncio.Queue(_QUEUE_BOUND)
        self._seen: dict[_Identity, tuple[str, int, float]] = {}
        self._writing: dict[_Identity, asyncio.Task[None]] = {}
        self._left: dict[str, tuple[float, float]] = {}

    def record(self, obj: Object, type_: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Say something of an object: type_ is "Normal" or "Warning"."""
        ref = type(obj).resource
        meta = obj.metadata
        now = self._clock.time()
        if not self._may_say(f"{meta.uid}/{meta.namespace}/{meta.name}", now):
            return
        regarding = {
            "kind": ref.kind,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "apiVersion": ref.api_version,
            "resourceVersion": meta.resourceVersion,
            "fieldPath": field_path,
        }
        try:
            self._queue.put_nowait(_Pending({k: v for k, v in regarding.items() if v}, type_, reason, message[:1024], now))
        except asyncio.QueueFull:
            log.warning("event dropped, too many are waiting", extra={"reason": reason})

    def _may_say(self, about: str, now: float) -> bool:
        """Whether one more event of an object is to be written: its tokens, refilled with time."""
        left, at = self._left.get(about, (_BURST, now))
        left = min(_BURST, left + (now - at) * _PER_SECOND)
        if len(self._left) > 4096:
            self._left.clear()
        self._left[about] = (left - 1 if left >= 1 else left, now)
        return left >= 1

    async def run(self) -> None:
        """Write events until cancelled."""
        writes, room = Tasks(), asyncio.Semaphore(_AT_ONCE)
        try:
            while True:
                pending = await self._queue.get()
                await room.acquire()
                identity = _identity(pending)
                name, count, last = self._seen.get(identity, ("", 0, 0.0))
                if not name or pending.at - last >= _REPEAT_WINDOW:
                    name, count = _name(pending), 0
                self._remember(identity, name, count + 1, pending.at)
                write = self._say(pending, identity, name, count + 1, self._writing.get(identity), room)
                self._writing[identity] = writes.spawn(write, "event")
        finally:
            await writes.close()

    async def _say(
        self, pending: _Pending, identity: _Identity, name: str, count: int, before: asyncio.Task[None] | None, room: asyncio.Semaphore
    ) -> None:
        try:
            if before is not None:
                await asyncio.wait((before,))
            await self._write(pending, identity, name, count)
        except (StatusError, TransportError) as error:
            log.debug("event not written", extra={"reason": pending.reason, "error": str(error)})
        finally:
            if self._writing.get(identity) is asyncio.current_task():
                del self._writing[identity]
            room.release()

    async def _write(self, pending: _Pending, identity: _Identity, name: str, count: int) -> None:
        about = pending.regarding
        namespace = about.get("namespace") or "default"
        now = timestamp(pending.at)
        if count > 1:
            try:
                await self._client.patch(Event, name, {"count": count, "lastTimestamp": now}, namespace)
                return
            except NotFound:
                name = _name(pending)
                self._remember(identity, name, 1, pending.at)
        source = {"component": self._component, **({"host": self._host} if self._host else {})}
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "reason": pending.reason,
            "message": pending.message,
            "type": pending.type,
            "source": source,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._client.create(Event, body, namespace)

    def _remember(self, identity: _Identity, name: str, count: int, at: float) -> None:
        """What was written last of an event; of the most recent ones."""
        self._seen.pop(identity, None)
        self._seen[identity] = name, count, at
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]


def _name(pending: _Pending) -> str:
    return f"{pending.regarding['name']}.{int(pending.at * 1e9):x}"
