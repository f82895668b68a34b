"""What happens to containers, as a stream of frozen values, whichever way the runtime tells of it.

containerd 1.7 and later have CRI's GetContainerEvents; 1.6 has only its native event stream, which speaks of tasks. Both come out as the
same values, and both keep these promises (that a container was created is not told: whoever created it knows):
- a RESYNC comes first, and again after every reconnection: what happened before it may have been missed, so list. Nothing after it is
  missed;
- when STOPPED arrives, a status call says that the container or sandbox is no longer running;
- `sandbox_id` and `pod_uid` are set whenever the runtime still knows the thing.
A consumer stays level-triggered: an event says where to look, never what to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
import msgspec
from google.protobuf.any_pb2 import Any as AnyMessage

from minikube_py.aio import Backoff, Tasks
from minikube_py.cri import errors
from minikube_py.cri.channel import answer, translate
from minikube_py.cri.native import events_pb2, events_pb2_grpc, task_events_pb2
from minikube_py.cri.v1 import api_pb2 as v1
from minikube_py.cri.v1 import api_pb2_grpc

if TYPE_CHECKING:
    from minikube_py.cri.client import CriClient

log = logging.getLogger(__name__)

NAMESPACE: Final = "k8s.io"  # where containerd's CRI keeps everything
_SETTLE_SECONDS: Final = 5.0


class EventKind(enum.Enum):
    """What happened."""

    RESYNC = "Resync"
    STARTED = "Started"
    STOPPED = "Stopped"
    DELETED = "Deleted"


class ContainerEvent(msgspec.Struct, frozen=True):
    """One event. `container_id` is the sandbox's own id where the event is about the sandbox; all ids are empty in a RESYNC."""

    kind: EventKind
    container_id: str = ""
    sandbox_id: str = ""
    pod_uid: str = ""

    @property
    def is_sandbox(self) -> bool:
        """Whether the event is about a sandbox rather than one of its containers."""
        return bool(self.container_id) and self.container_id == self.sandbox_id


_OPENING_SECONDS: Final = 20.0
RESYNC: Final = ContainerEvent(EventKind.RESYNC)

_CRI_KINDS: Final = {
    v1.CONTAINER_STARTED_EVENT: EventKind.STARTED,
    v1.CONTAINER_STOPPED_EVENT: EventKind.STOPPED,
    v1.CONTAINER_DELETED_EVENT: EventKind.DELETED,
}
_TASK_EVENTS: Final[dict[str, tuple[EventKind, Any]]] = {
    "/tasks/start": (EventKind.STARTED, task_events_pb2.TaskStart),
    "/tasks/exit": (EventKind.STOPPED, task_events_pb2.TaskExit),
    "/containers/delete": (EventKind.DELETED, task_events_pb2.ContainerDelete),
}


async def follow(client: CriClient) -> AsyncIterator[ContainerEvent]:
    """Events for ever, through restarts of the runtime. Ends only by cancellation or `aclose`."""
    backoff = Backoff(first=0.05, limit=2.0)
    source = _cri_events
    connected = True
    while True:
        try:
            async with contextlib.aclosing(source(client)) as stream:
                async for event in stream:
                    if not connected:
                        log.info("following the container runtime's events again")
                    connected = True
                    backoff.reset()
                    yield event
        except errors.Unimplemented:
            source = _cri_events if source is _native_events else _native_events
        except errors.CriError as error:
            if connected:
                log.warning("lost the container runtime's events", extra={"error": str(error)})
            connected = False
            # The next runtime on this socket may be of another version.
            source = _cri_events
        await asyncio.sleep(backoff.next())


async def _cri_events(client: CriClient) -> AsyncGenerator[ContainerEvent, None]:
    """CRI's own stream. The runtime keeps events for a subscriber that comes late: none is lost after RESYNC."""
    runtime = api_pb2_grpc.RuntimeServiceStub(client.channel)
    version = await client.version(timeout=_OPENING_SECONDS)
    if _before_1_7(version.runtime_version):  # its answer to the call would be the same, but only after a RESYNC was given out
        raise errors.Unimplemented("GetContainerEvents")
    call = runtime.GetContainerEvents(v1.GetEventsRequest())
    try:
        yield RESYNC
        async for response in call:
            if (kind := _CRI_KINDS.get(response.container_event_type)) is not None:
                sandbox = response.pod_sandbox_status
                yield ContainerEvent(kind, response.container_id, sandbox.id, sandbox.metadata.uid)
    except grpc.aio.AioRpcError as error:
        raise translate(error) from error
    finally:
        call.cancel()
    raise errors.Unavailable("the event stream ended")


def _before_1_7(version: str) -> bool:
    """Whether a containerd version text ('1.6.20~ds1', 'v2.1.0') is older than 1.7; what cannot be read counts as new."""
    try:
        major, minor = version.lstrip("v").split(".")[:2]
        return (int(major), int(minor)) < (1, 7)
    except ValueError:
        return False


async def _native_events(client: CriClient) -> AsyncGenerator[ContainerEvent, None]:
    """containerd's own stream about tasks, with what CRI's would have added."""
    stub = events_pb2_grpc.EventsStub(client.channel)
    marker = f"/minikubepy/{uuid.uuid4().hex}"
    topics = "|".join((*_TASK_EVENTS, marker))
    call = stub.Subscribe(events_pb2.SubscribeRequest(filters=[f'topic~="^({topics})$",namespace=={NAMESPACE}']))
    queue: asyncio.Queue[ContainerEvent | errors.CriError] = asyncio.Queue(1000)
    tasks = Tasks()
    try:
        tasks.spawn(_pump(call, marker, _Owners(client), queue, tasks), "containerd events")
        # A subscription answers nothing until something happens: make something happen until it is seen, and only then say RESYNC.
        happening = events_pb2.PublishRequest(topic=marker, event=AnyMessage(type_url="containerd.events.TaskStart"))
        deadline = asyncio.get_running_loop().time() + _OPENING_SECONDS
        while queue.empty():
            if asyncio.get_running_loop().time() > deadline:  # a runtime that ended in between may never tell: begin anew
                raise errors.DeadlineExceeded("the event stream says nothing")
            await answer(stub.Publish(happening, metadata=(("containerd-namespace", NAMESPACE),), timeout=5))
            await asyncio.sleep(0.02)
        while True:
            item = await queue.get()
            if isinstance(item, errors.CriError):
                raise item
            yield item
    finally:
        call.cancel()
        await tasks.close()


async def _pump(call: Any, marker: str, owners: _Owners, queue: asyncio.Queue[ContainerEvent | errors.CriError], tasks: Tasks) -> None:
    """Read the native stream into `queue`; the last item is the error that ended it."""
    end: errors.CriError = errors.Unavailable("the event stream ended")
    marked = False
    try:
        async for envelope in call:
            if envelope.topic == marker:
                if not marked:
                    await owners.load()
                    await queue.put(RESYNC)
                marked = True
                continue
            kind, message = _TASK_EVENTS[envelope.topic]
            payload = message.FromString(envelope.event.value)
            if kind is EventKind.STOPPED and payload.id != payload.container_id:
                continue  # a command that was run in the container has ended, not the container
            id = payload.id if kind is EventKind.DELETED else payload.container_id
            event = await owners.event(kind, id)
            if kind is EventKind.STOPPED:
                tasks.spawn(_settle(owners.client, event, queue), "container exit")
            else:
                await queue.put(event)
    except grpc.aio.AioRpcError as error:
        end = translate(error)
    except errors.CriError as error:
        end = error
    finally:
        if queue.full():  # what is behind the end is found by the list that follows
            queue.get_nowait()
        queue.put_nowait(end)


async def _settle(client: CriClient, event: ContainerEvent, queue: asyncio.Queue[ContainerEvent | errors.CriError]) -> None:
    """Pass an exit on once CRI's status knows of it: it learns of the exit from the same stream, a little later or a little earlier."""
    delay = 0.002
    with contextlib.suppress(errors.CriError):  # gone: settled; the runtime gone: the resync will tell
        while delay < _SETTLE_SECONDS and not await _has_ended(client, event):
            await asyncio.sleep(delay)
            delay *= 1.5
    await queue.put(event)


async def _has_ended(client: CriClient, event: ContainerEvent) -> bool:
    if event.is_sandbox:
        return (await client.pod_sandbox_status(event.container_id)).status.state != v1.SANDBOX_READY
    # what ends at once has ended before CRI knows that it was started: it is "created" then, and will be "running" for a moment
    return (await client.container_status(event.container_id)).state not in (v1.CONTAINER_CREATED, v1.CONTAINER_RUNNING)


class _Owners:
    """Which sandbox and pod a container belongs to, for events that name the container only."""

    def __init__(self, client: CriClient) -> None:
        self.client = client
        self._known: dict[str, tuple[str, str]] = {}

    async def load(self) -> None:
        """Learn all that exist, in two calls."""
        self._learn(await self.client.list_pod_sandboxes(), await self.client.list_containers())

    async def event(self, kind: EventKind, id: str) -> ContainerEvent:
        """The event, with its owner filled in where the runtime knows it."""
        if id not in self._known and kind is not EventKind.DELETED:
            containers = await self.client.list_containers(v1.ContainerFilter(id=id))
            sandbox_id = containers[0].pod_sandbox_id if containers else id
            self._learn(await self.client.list_pod_sandboxes(v1.PodSandboxFilter(id=sandbox_id)), containers)
        sandbox_id, pod_uid = self._known.pop(id, ("", "")) if kind is EventKind.DELETED else self._known.get(id, ("", ""))
        return ContainerEvent(kind, id, sandbox_id, pod_uid)

    def _learn(self, sandboxes: Sequence[v1.PodSandbox], containers: Sequence[v1.Container]) -> None:
        for sandbox in sandboxes:
            self._known[sandbox.id] = (sandbox.id, sandbox.metadata.uid)
        for container in containers:
            _, pod_uid = self._known.get(container.pod_sandbox_id, ("", ""))
            self._known[container.id] = (container.pod_sandbox_id, pod_uid)
