"""A machine that is shut down ends its pods first: users' before critical ones, each with its time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from minikube_py.kubelet.shutdown import State
from minikube_py.nodesettings import NodeSettings
from minikube_py.types.core import Node
from tests.kubelet.agent import NODE, agent, status
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

STAYS = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]
ENDS = ["sh", "-c", "trap 'sleep 0.5; exit 0' TERM; sleep 1000 & wait"]


async def test_pods_end_by_priority_and_the_node_takes_no_more(tmp_path: Path) -> None:
    settings = NodeSettings(eviction=(), shutdown_grace_period=8.0, shutdown_grace_period_critical_pods=4.0)
    async with agent(tmp_path, settings=settings) as node:
        await node.create("web", {"command": ENDS}, terminationGracePeriodSeconds=30)
        await node.create("stubborn", {"command": STAYS}, terminationGracePeriodSeconds=30)
        await node.create("dns", {"command": ENDS}, priority=2_000_000_000, terminationGracePeriodSeconds=30)
        for name in ("web", "stubborn", "dns"):
            await node.running(name)
        ending = asyncio.create_task(node.kubelet.shutdown.begin())

        async def not_ready() -> bool:
            ready = next(c for c in (await node.client.get(Node, NODE)).status.conditions if c.type == "Ready")
            return (ready.status, ready.reason, ready.message) == ("False", "KubeletNotReady", "node is shutting down")

        await until(not_ready, 5)
        await node.create("late", {"command": ENDS})
        late = await node.wait("late", lambda pod: pod.status.phase == "Failed")
        assert late.status.reason == "NodeShutdown"
        assert late.status.message == "Pod was rejected: Pod was rejected as the node is shutting down."
        web = await node.wait("web", lambda pod: pod.status.phase == "Failed")
        assert (web.status.reason, web.status.message) == ("Terminated", "Pod was terminated in response to imminent node shutdown.")
        assert status(web).state.terminated and status(web).state.terminated.exitCode == 0
        assert any(c.type == "DisruptionTarget" and c.reason == "TerminationByKubelet" for c in web.status.conditions)
        # a critical pod runs on while the others end
        assert status(await node.pod("dns")).state.running
        state = node.kubelet.shutdown.state_file
        assert msgspec.json.decode(state.read_bytes(), type=State).endTime is None
        await asyncio.wait_for(ending, 10)
        assert msgspec.json.decode(state.read_bytes(), type=State).endTime
        stubborn, dns = await node.pod("stubborn"), await node.wait("dns", lambda pod: pod.status.phase == "Failed")
        assert status(stubborn).state.terminated and status(stubborn).state.terminated.exitCode == 137
        last = [status(pod).state.terminated for pod in (stubborn, dns)]
        assert all(last) and last[0].finishedAt <= last[1].finishedAt
        assert "NodeShutdown" in [reason for reason, _ in await node.events(NODE)]
        await node.restart()
        await node.create("again", {"command": ENDS})
        await node.running("again")
