"""Events about objects, as kubectl describe shows them: correlated (correlate.py), and written in the background.

What is a repeat is decided in the order in which things were said; the writes themselves run beside one another, but for those of one
Event. A server that is away is waited for, as client-go's recorder does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from minikube_py.aio import Clock, SystemClock, Tasks
from minikube_py.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.control.correlate import Correlated, Correlator, Key, Said
from minikube_py.meta.errors import NotFound, StatusError
from minikube_py.types.core import Event
from minikube_py.types.meta import Object, timestamp

log = logging.getLogger(__name__)

_QUEUE_BOUND = 1000
_AT_ONCE = 32
"""Events that are being written at a time: one after another they would fall behind a scheduler that binds a thousand pods a second."""
_TRIES, _TRY_SECONDS = 12, 10.0


class EventRecorder:
    """Records Events as one component on one host. A full queue drops events: they must never hold the work up."""

    def __init__(
        self, client: Client, component: str, host: str = "", clock: Clock | None = None, between_tries: float = _TRY_SECONDS
    ) -> None:
        self._client, self._component, self._host, self._clock = client, component, host, clock or SystemClock()
        self._between_tries = between_tries
        self._correlator = Correlator()
        self._queue: asyncio.Queue[Correlated] = asyncio.Queue(_QUEUE_BOUND)
        self._writing: dict[Key, asyncio.Task[None]] = {}

    def record(self, obj: Object, type_: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Say something of an object: type_ is "Normal" or "Warning"."""
        ref = type(obj).resource
        meta = obj.metadata
        regarding = {
            "kind": ref.kind,
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
            "apiVersion": ref.api_version,
            "resourceVersion": meta.resourceVersion,
            "fieldPath": field_path,
        }
        self.say(regarding, type_, reason, message)

    def say(self, regarding: Mapping[str, str], type_: str, reason: str, message: str) -> None:
        """The same of an object that only an ObjectReference is at hand of."""
        said = Said({k: v for k, v in regarding.items() if v}, type_, reason, message[:1024], self._clock.time())
        event = self._correlator.correlate(said)
        if event is None:
            return
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            log.warning("event dropped, too many are waiting", extra={"reason": reason})

    async def run(self) -> None:
        """Write events until cancelled."""
        writes, room = Tasks(), asyncio.Semaphore(_AT_ONCE)
        try:
            while True:
                event = await self._queue.get()
                await room.acquire()
                self._writing[event.key] = writes.spawn(self._say(event, self._writing.get(event.key), room), "event")
        finally:
            await writes.close()

    async def _say(self, event: Correlated, before: asyncio.Task[None] | None, room: asyncio.Semaphore) -> None:
        try:
            if before is not None:
                await asyncio.wait((before,))
            await self._persistently(event)
        except (StatusError, TransportError) as error:
            log.debug("event not written", extra={"reason": event.said.reason, "error": str(error)})
        finally:
            if self._writing.get(event.key) is asyncio.current_task():
                del self._writing[event.key]
            room.release()

    async def _persistently(self, event: Correlated) -> None:
        for _ in range(_TRIES - 1):
            try:
                return await self._write(event)
            except TransportError:
                await asyncio.sleep(self._between_tries)
        await self._write(event)

    async def _write(self, event: Correlated) -> None:
        said = event.said
        namespace = said.regarding.get("namespace") or "default"
        now = timestamp(said.at)
        if event.times > 1:
            try:
                change = {"count": event.times, "message": event.message, "lastTimestamp": now}
                await self._client.patch(Event, event.name, change, namespace)
                return
            except NotFound:  # its time was up: it begins anew, and counts on
                pass
        source = {"component": self._component, **({"host": self._host} if self._host else {})}
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": event.name, "namespace": namespace},
            "involvedObject": said.regarding,
            "reason": said.reason,
            "message": event.message,
            "type": said.type,
            "source": source,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": timestamp(event.first),
            "lastTimestamp": now,
            "count": event.times,
        }
        await self._client.create(Event, body, namespace)
