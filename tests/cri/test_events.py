"""The event stream of a real containerd: order, completeness, and what it promises about the state behind an event."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from google.protobuf.any_pb2 import Any

from minikube_py import stacks
from minikube_py.aio import cancel
from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.cri.events import ContainerEvent, EventKind
from minikube_py.cri.native import events_pb2, events_pb2_grpc, task_events_pb2
from minikube_py.cri.process import Daemon
from minikube_py.cri.v1 import api_pb2 as v1
from tests.support.nodes import RuntimeNode
from tests.support.sandboxes import container_config, run_container, sandbox_config
from tests.support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]


class Follower:
    """Collects events; `wait` gives the first one that matches, also one that came before."""

    def __init__(self, client: CriClient) -> None:
        self.events: list[ContainerEvent] = []
        self._changed = asyncio.Condition()
        self.task = asyncio.create_task(self._follow(client), name="follower")

    async def _follow(self, client: CriClient) -> None:
        async for event in client.events():
            async with self._changed:
                self.events.append(event)
                self._changed.notify_all()

    async def wait(self, wanted: Callable[[ContainerEvent], bool], timeout: float = 10) -> ContainerEvent:
        async with asyncio.timeout(timeout), self._changed:
            await self._changed.wait_for(lambda: any(map(wanted, self.events)))
            return next(event for event in self.events if wanted(event))


@pytest_asyncio.fixture(loop_scope="module")
async def follower(client: CriClient) -> AsyncIterator[Follower]:
    following = Follower(client)
    await following.wait(lambda event: event.kind is EventKind.RESYNC)
    yield following
    await cancel(following.task)


async def test_a_containers_life(client: CriClient, node: RuntimeNode, follower: Follower) -> None:
    sandbox = sandbox_config("life", node.cgroup)
    sandbox_id, container_id = await run_container(client, sandbox, container_config("main", ("sh", "-c", "sleep 0.2; exit 5")))
    started = await follower.wait(lambda event: event.kind is EventKind.STARTED and event.container_id == container_id)
    assert started == ContainerEvent(EventKind.STARTED, container_id, sandbox_id, sandbox.metadata.uid)
    assert not started.is_sandbox

    stopped = await follower.wait(lambda event: event.kind is EventKind.STOPPED and event.container_id == container_id)
    status = await client.container_status(container_id)
    assert (status.state, status.exit_code) == (v1.CONTAINER_EXITED, 5), "the status must know of the exit when the event comes"
    assert stopped.pod_uid == sandbox.metadata.uid

    await client.stop_pod_sandbox(sandbox_id)
    ended = await follower.wait(lambda event: event.kind is EventKind.STOPPED and event.container_id == sandbox_id)
    assert ended.is_sandbox
    assert ended.pod_uid == sandbox.metadata.uid
    await client.remove_pod_sandbox(sandbox_id)
    await follower.wait(lambda event: event.kind is EventKind.DELETED and event.container_id == container_id)


async def test_a_command_that_ends_is_not_a_container_that_stops(client: CriClient, node: RuntimeNode, follower: Follower) -> None:
    sandbox_id, container_id = await run_container(client, sandbox_config("commands", node.cgroup), container_config("main"))
    await client.exec_sync(container_id, ["true"], timeout=5)
    await client.stop_container(container_id, 0)
    await follower.wait(lambda event: event.kind is EventKind.STOPPED and event.container_id == container_id)
    assert len([event for event in follower.events if event.kind is EventKind.STOPPED and event.container_id == container_id]) == 1
    await client.remove_pod_sandbox(sandbox_id)


async def test_every_exit_of_a_burst_is_told(client: CriClient, node: RuntimeNode, follower: Follower) -> None:
    sandbox = sandbox_config("burst", node.cgroup)
    sandbox_id = await client.run_pod_sandbox(sandbox)
    ids = await asyncio.gather(*(client.create_container(sandbox_id, container_config(f"c{n}", ("true",)), sandbox) for n in range(8)))

    async def state_when_told(container_id: str) -> int:
        await follower.wait(lambda event: event.kind is EventKind.STOPPED and event.container_id == container_id)
        return (await client.container_status(container_id)).state

    told = [asyncio.create_task(state_when_told(container_id)) for container_id in ids]
    await asyncio.gather(*map(client.start_container, ids))
    # some have ended before their start was answered: also then the runtime knows of the end when it is told
    assert await asyncio.gather(*told) == [v1.CONTAINER_EXITED] * len(ids)
    await client.remove_pod_sandbox(sandbox_id)


async def test_events_go_on_after_a_restart_of_the_runtime(client: CriClient, node: RuntimeNode, follower: Follower) -> None:
    sandbox_id, container_id = await run_container(client, sandbox_config("restart", node.cgroup), container_config("main"))
    await node.containerd.stop()
    with contextlib.suppress(errors.Unavailable):
        await client.version()
        pytest.fail("the runtime still answers")
    follower.events.clear()
    await node.containerd.start()
    await follower.wait(lambda event: event.kind is EventKind.RESYNC)
    assert (await client.container_status(container_id)).state == v1.CONTAINER_RUNNING
    await client.stop_container(container_id, 0)
    stopped = await follower.wait(lambda event: event.kind is EventKind.STOPPED and event.container_id == container_id)
    assert stopped.sandbox_id == sandbox_id
    await client.remove_pod_sandbox(sandbox_id)


async def test_killed_at_any_moment_of_its_start_it_is_followed_again(client: CriClient, node: RuntimeNode, follower: Follower) -> None:
    async def killed() -> None:
        daemon = Daemon(int(node.containerd.layout.pid.read_text()))
        os.kill(daemon.pid, signal.SIGKILL)
        await daemon.wait()
        daemon.close()
        node.containerd.layout.socket.unlink()  # its name stays behind

    for moment in (0.0, 0.02, 0.05, 0.1, 0.2, 0.4):
        await killed()
        starting = asyncio.create_task(node.containerd.start())
        await until(node.containerd.layout.socket.exists)
        await asyncio.sleep(moment)
        await killed()
        with contextlib.suppress(errors.CriError):
            await starting
        follower.events.clear()
        await node.containerd.start()
        await follower.wait(lambda event: event.kind is EventKind.RESYNC, timeout=5)
        assert [sandbox for sandbox in await client.list_pod_sandboxes() if sandbox.state == v1.SANDBOX_READY] == []


async def test_events_that_nobody_reads_hold_nobody_up(client: CriClient, node: RuntimeNode) -> None:
    events = client.events()
    assert await anext(events) == ContainerEvent(EventKind.RESYNC)
    sandbox_id = await client.run_pod_sandbox(sandbox_config("many", node.cgroup))
    happening = events_pb2.PublishRequest(topic="/tasks/start", event=Any())
    happening.event.type_url = "containerd.events.TaskStart"
    happening.event.value = task_events_pb2.TaskStart(container_id=sandbox_id).SerializeToString()
    publish = events_pb2_grpc.EventsStub(client.channel).Publish
    for _ in range(24):
        await asyncio.gather(*(publish(happening, metadata=(("containerd-namespace", "k8s.io"),), timeout=10) for _ in range(50)))
    await until(lambda: "in Queue.put" in stacks.report(asyncio.get_running_loop()), what="more than are kept have come")
    closing = asyncio.create_task(events.aclose())
    done, _ = await asyncio.wait((closing,), timeout=5)
    assert done, "the events are not let go of"
    await client.stop_pod_sandbox(sandbox_id)
    await client.remove_pod_sandbox(sandbox_id)
