"""Nodes: ranges for their pods, silence, taints and evictions; pods that nobody ends any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from minikube_py.aio import Turns, cancel
from minikube_py.client import Client, Patch
from minikube_py.client.transport import Answer, Transport, TransportError
from minikube_py.control import Informer
from minikube_py.controllers import Options, node_ipam, node_lifecycle, node_zones, podgc, taint_eviction
from minikube_py.controllers.base import Context
from minikube_py.controllers.node_ipam import NodeIPAMController
from minikube_py.controllers.node_zones import Rates, State, Zones
from minikube_py.controllers.nodes import NOT_READY, UNREACHABLE, Evicting, wanted_taints
from minikube_py.types.core import Event, Lease, Node, Taint
from minikube_py.types.meta import Condition, timestamp
from minikube_py.types.pod import Pod, Toleration, is_ready
from tests.controllers.builders import NOW, node, pod
from tests.controllers.harness import control_plane
from tests.support.api import api_server
from tests.support.waiting import until

STAMP = timestamp(NOW)
READY = Condition(type="Ready", status="True", lastHeartbeatTime=timestamp(NOW - 1000))
SPEC = {"nodeName": "n1", "containers": [{"name": "web", "image": "web:1"}]}


# Ranges


def lowest(cluster: str, mask: int, *held: str, reserved: str = "") -> str | None:
    ranges = node_ipam.Ranges(ip_network(cluster), mask, reserved)
    for number, cidr in enumerate(held):
        ranges.hold(f"n{number}", (cidr,))
    return ranges.lowest()


def test_the_lowest_free_range_is_given() -> None:
    assert lowest("10.42.0.0/16", 24) == "10.42.0.0/24"
    assert lowest("10.42.0.0/16", 24, "10.42.0.0/24", "10.42.2.0/24", "nonsense", "fd00::/64", "10.43.1.0/24") == "10.42.1.0/24"
    assert lowest("10.42.0.0/23", 24, "10.42.0.0/24", "10.42.1.0/24") is None
    assert lowest("10.42.0.0/16", 24, "10.42.0.0/22") == "10.42.4.0/24"
    assert lowest("10.42.0.0/16", 24, reserved="10.42.0.0/20") == "10.42.16.0/24"
    assert lowest("fd00::/48", 64, "fd00::/64") == "fd00:0:0:1::/64"


def test_a_range_is_free_when_the_last_of_its_holders_lets_go() -> None:
    ranges = node_ipam.Ranges(ip_network("10.42.0.0/22"), 24)
    for holder, cidr in (("a", "10.42.0.0/24"), ("b", "10.42.1.0/24"), ("c", "10.42.0.0/23"), ("d", "10.42.2.0/24")):
        ranges.hold(holder, (cidr,))
        ranges.hold(holder, (cidr,))
    assert ranges.lowest() == "10.42.3.0/24"
    ranges.hold("b", ())
    assert ranges.lowest() == "10.42.3.0/24"
    ranges.hold("c", ("10.42.0.0/24",))
    assert ranges.lowest() == "10.42.1.0/24"
    ranges.hold("e", ("10.42.1.0/24", "10.42.3.0/24"))
    assert ranges.lowest() is None


async def test_nodes_get_ranges_that_never_overlap(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("node-ipam",)) as plane:
        for index in range(20):
            await plane.create(Node, {"metadata": {"name": f"n{index}"}}, None)
        made = [await plane.eventually(Node, f"n{index}", lambda n: n.spec.podCIDR, None) for index in range(20)]
        assert {n.spec.podCIDR for n in made} == {f"10.42.{i}.0/24" for i in range(20)}
        assert all(n.spec.podCIDRs == (n.spec.podCIDR,) for n in made)
        await plane.client.delete(Node, "n7")
        await plane.create(Node, {"metadata": {"name": "later"}}, None)
        await plane.eventually(Node, "later", lambda n: n.spec.podCIDR == made[7].spec.podCIDR, None)


class Deaf(Transport):
    """Sends requests, and hears the answer to no patch."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def request(self, method: str, path: str, **more: Any) -> Answer:
        answer = await self._inner.request(method, path, **more)
        if method == "PATCH":
            raise TransportError("the connection broke")
        return answer

    def stream(self, method: str, path: str, **more: Any) -> AbstractAsyncContextManager[tuple[int, AsyncIterator[bytes]]]:
        return self._inner.stream(method, path, **more)

    async def close(self) -> None:
        await self._inner.close()


class Late:
    """An informer that has listed, and whose watch is late."""

    def __init__(self, informer: Informer[Node]) -> None:
        self._informer, self.turns = informer, Turns()

    def of(self, view: type[Node]) -> Informer[Node]:
        return self._informer


async def test_a_range_whose_node_may_have_got_it_is_given_to_no_other(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        client = server.client()
        for name in ("n1", "n2"):
            await client.create(Node, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
        informer = Informer(client, Node)
        following = asyncio.create_task(informer.run())
        await informer.synced.wait()
        await cancel(following)
        deaf = NodeIPAMController(Context(lambda name: Client(Deaf(server.transport())), Late(informer)))  # type: ignore[arg-type]
        for name in ("n1", "n2"):
            with pytest.raises(TransportError):
                await deaf.reconcile(name)
        assert [(await client.get(Node, name)).spec.podCIDR for name in ("n1", "n2")] == ["10.42.0.0/24", "10.42.1.0/24"]
        # it is asked for again, since the informer does not know yet
        with pytest.raises(TransportError):
            await deaf.reconcile("n1")
        assert (await client.get(Node, "n1")).spec.podCIDR == "10.42.0.0/24"


async def test_the_range_of_a_node_that_went_while_nothing_was_heard_is_free(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        client = server.client()
        await client.create(Node, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        informer = Informer(client, Node)
        following = asyncio.create_task(informer.run())
        await informer.synced.wait()
        await cancel(following)
        controller = NodeIPAMController(Context(lambda name: client, Late(informer)))  # type: ignore[arg-type]
        await controller.reconcile("n1")
        await client.delete(Node, "n1")
        await client.create(Node, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}})
        await server.store.compact(server.store.revision)
        following = asyncio.create_task(informer.run())
        await until(lambda: informer.get("n2") is not None and informer.get("n1") is None)
        await controller.reconcile("n2")
        await cancel(following)
        assert (await client.get(Node, "n2")).spec.podCIDR == "10.42.0.0/24"


# Silence


def keys(taints: Sequence[Taint]) -> set[tuple[str, str]]:
    return {(t.key.removeprefix("node.kubernetes.io/"), t.effect) for t in taints}


def test_a_silent_node_turns_unknown() -> None:
    plan = node_lifecycle.plan(node(conditions=[READY]), 41, 40, NOW)
    assert plan.conditions is not None and plan.taints is not None
    said = {c.type: (c.status, c.reason, c.message) for c in plan.conditions}
    assert said["Ready"] == ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert said["MemoryPressure"] == ("Unknown", "NodeStatusNeverUpdated", "Kubelet never posted node status.")
    assert keys(plan.taints) == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
    assert plan.again is None


def test_a_node_within_its_grace_is_looked_at_when_that_ends() -> None:
    plan = node_lifecycle.plan(node(conditions=[READY]), 30, 40, NOW)
    assert (plan.conditions, plan.taints) == (None, None) and plan.again == pytest.approx(10, abs=0.1)
    assert node_lifecycle.silence_limit(node(conditions=[READY]), 40, 60) == 40
    assert node_lifecycle.silence_limit(node(), 40, 60) == 60
    assert node_lifecycle.plan(node(), 50, 60, NOW).conditions is None
    assert node_lifecycle.plan(node(), 61, 60, NOW).conditions is not None


@pytest.mark.parametrize(
    ("conditions", "unschedulable", "expected"),
    [
        ([Condition(type="Ready", status="False")], False, {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}),
        ([READY, Condition(type="MemoryPressure", status="True")], False, {("memory-pressure", "NoSchedule")}),
        ([READY, Condition(type="DiskPressure", status="True")], True, {("disk-pressure", "NoSchedule"), ("unschedulable", "NoSchedule")}),
        ([READY, Condition(type="NetworkUnavailable", status="Unknown")], False, set()),
    ],
)
def test_taints_follow_conditions(conditions: list[Condition], unschedulable: bool, expected: set[tuple[str, str]]) -> None:
    assert keys(wanted_taints(node(conditions=conditions, unschedulable=unschedulable), conditions, STAMP)) == expected


def test_taints_of_others_stay_and_old_ones_keep_their_date() -> None:
    foreign = Taint(key="dedicated", effect="NoSchedule", value="db")
    old = Taint(key=NOT_READY, effect="NoExecute", timeAdded=timestamp(NOW - 50))
    made = node(taints=[foreign, old, Taint(key=UNREACHABLE, effect="NoExecute")])
    taints = wanted_taints(made, [Condition(type="Ready", status="False")], STAMP)
    assert taints[:2] == (foreign, old) and keys(taints[2:]) == {("not-ready", "NoSchedule")}


def test_driving_pods_out_can_be_put_off_and_called_off() -> None:
    away = [Condition(type="Ready", status="Unknown")]
    begun = node(conditions=away, taints=[Taint(key=UNREACHABLE, effect="NoExecute")])
    plain = node(conditions=away)
    only_new, both = {("unreachable", "NoSchedule")}, {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
    assert keys(wanted_taints(plain, away, STAMP, Evicting.NOT_YET)) == only_new
    assert keys(wanted_taints(begun, away, STAMP, Evicting.NOT_YET)) == both
    assert keys(wanted_taints(begun, away, STAMP, Evicting.NO)) == only_new
    # one taint takes the other's place at once
    not_ready = [Condition(type="Ready", status="False")]
    swapped = {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}
    assert keys(wanted_taints(begun, not_ready, STAMP, Evicting.NOT_YET)) == swapped


def test_a_node_that_is_well_needs_no_leave_to_be_asked() -> None:
    def refuse() -> Evicting:
        raise AssertionError("asked")

    assert node_lifecycle.plan(node(conditions=[READY]), 0, 40, NOW, refuse).taints is None


# How fast nodes are given up


@pytest.mark.parametrize(
    ("ready", "away", "expected"),
    [
        (1, 0, State.NORMAL),
        (0, 1, State.FULL),
        (1, 2, State.NORMAL),
        (2, 3, State.PARTIAL),
        (5, 3, State.NORMAL),
        (0, 9, State.FULL),
    ],
)
def test_the_state_of_a_zone(ready: int, away: int, expected: State) -> None:
    assert node_zones.state(ready, away, 0.55) is expected


def test_zones_are_counted_apart_and_nodes_can_be_left_out() -> None:
    here, there = {"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "a"}, {"topology.kubernetes.io/zone": "b"}
    counted = [(node("n1", labels=here), True), (node("n2", labels=here), False), (node("n3", labels=there), False)]
    left_out = (node("n4", labels={**there, "node.kubernetes.io/exclude-disruption": ""}), True)
    assert node_zones.states([*counted, left_out], 0.55) == {("r", "a"): (State.NORMAL, 2), ("", "b"): (State.FULL, 1)}


def test_nodes_are_given_up_at_the_zones_pace() -> None:
    zones = Zones(Rates(large_cluster_size_threshold=50))
    one, two = ("r", "a"), ("r", "b")
    zones.observe({one: (State.NORMAL, 9), two: (State.FULL, 3)})
    assert zones.wait(one, 100) == 0
    zones.give_up(one, 100)
    assert (zones.wait(one, 104), zones.wait(two, 104), zones.wait(one, 110)) == (6, 0, 0)
    zones.observe({one: (State.PARTIAL, 9), two: (State.NORMAL, 3)})
    assert zones.wait(one, 1000) is None
    zones.observe({one: (State.PARTIAL, 51), two: (State.NORMAL, 3)})
    assert (zones.wait(one, 150), zones.wait(one, 200)) == (50, 0)


def test_nothing_is_given_up_while_nothing_is_ready() -> None:
    zones = Zones(Rates())
    one, two = ("r", "a"), ("r", "b")
    assert not zones.observe({one: (State.FULL, 9), two: (State.FULL, 3)})
    assert zones.stopped and zones.wait(one, 100) is None
    assert zones.observe({one: (State.FULL, 9), two: (State.NORMAL, 3)})
    assert not zones.stopped and zones.wait(one, 100) == 0
    zones.observe({})
    assert not zones.stopped


async def test_silence_of_all_nodes_then_of_one(tmp_path: Path) -> None:
    """While all are silent, pods stay: this side may be what is cut off. Once one is back, the other is given up, until it is back too."""
    options = Options(node_monitor_grace_period=2.0, node_monitor_period=0.2)
    async with control_plane(tmp_path, only=("node-lifecycle", "serviceaccount"), options=options) as plane:
        await plane.node("n1")
        await plane.node("n2")
        await plane.run_pod(await plane.create(Pod, {"metadata": {"name": "a"}, "spec": SPEC}))
        for name in ("n1", "n2"):
            await plane.eventually(Node, name, lambda n: keys(n.spec.taints) == {("unreachable", "NoSchedule")}, None)
        await plane.eventually(Pod, "a", lambda p: not is_ready(p))

        async def beat() -> None:
            while True:
                await plane.heartbeat("n2")
                await asyncio.sleep(0.5)

        beating = asyncio.create_task(beat(), name="heartbeats")
        given_up = {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}
        await plane.eventually(Node, "n1", lambda n: keys(n.spec.taints) == given_up, None)
        await plane.eventually(Node, "n2", lambda n: not n.spec.taints, None)
        await plane.heartbeat("n1")
        await plane.eventually(Node, "n1", lambda n: not n.spec.taints, None)
        await cancel(beating)


async def test_lease_renewals_keep_a_node_alive(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("node-lifecycle",), options=Options(node_monitor_grace_period=2.0)) as plane:
        lease = {"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40}}
        await plane.create(Lease, lease, "kube-node-lease")
        await plane.node()
        for beat in range(10):
            renewed = f"2026-01-01T00:00:{beat:02d}.000000Z"
            await plane.client.patch(Lease, "n1", {"spec": {"renewTime": renewed}}, "kube-node-lease")
            await asyncio.sleep(0.3)
            current = await plane.get(Node, "n1", None)
            assert not current.spec.taints and any(c.type == "Ready" and c.status == "True" for c in current.status.conditions)


# Evictions


def tolerates(seconds: int | None) -> tuple[Toleration, ...]:
    return (Toleration(key=UNREACHABLE, operator="Exists", effect="NoExecute", tolerationSeconds=seconds),)


def test_evictions() -> None:
    tainted = node(taints=[Taint(key=UNREACHABLE, effect="NoExecute", timeAdded=timestamp(NOW - 100))])
    at_once, for_ever = pod("at-once"), pod("for-ever", tolerations=tolerates(None))
    over, waiting, young = (
        pod("over", tolerations=tolerates(90)),
        pod("waiting", tolerations=tolerates(300)),
        pod("young", tolerations=tolerates(90), created=NOW - 10),
    )
    plan = taint_eviction.plan(tainted, [at_once, for_ever, over, waiting, young, pod("ending", ending=True)], {}, NOW)
    assert plan.evict == (at_once, over) and plan.again == 80
    assert taint_eviction.plan(node(), [at_once], {}, NOW) == taint_eviction.Plan()


def test_a_taint_without_a_date_counts_from_when_it_is_seen() -> None:
    tainted = node(taints=[Taint(key="k", effect="NoExecute")])
    old = pod("old", tolerations=(Toleration(key="k", operator="Exists", tolerationSeconds=60),))
    first = taint_eviction.plan(tainted, [old], {}, NOW)
    assert not first.evict and first.again == 60
    second = taint_eviction.plan(tainted, [old], first.since, NOW + 59)
    assert not second.evict and second.again == 1
    assert taint_eviction.plan(tainted, [old], second.since, NOW + 60).evict == (old,)


def test_a_taint_that_takes_anothers_place_starts_nothing_anew() -> None:
    lasting = tuple(Toleration(key=k, operator="Exists", tolerationSeconds=300) for k in (NOT_READY, UNREACHABLE))
    one = pod("one", tolerations=lasting)
    first = taint_eviction.plan(node(taints=[Taint(key=NOT_READY, effect="NoExecute", timeAdded=STAMP)]), [one], {}, NOW)
    swapped = node(taints=[Taint(key=UNREACHABLE, effect="NoExecute", timeAdded=timestamp(NOW + 100))])
    assert taint_eviction.plan(swapped, [one], first.since, NOW + 100).again == 200


async def test_pods_leave_a_tainted_node(tmp_path: Path) -> None:
    async with control_plane(tmp_path, only=("taint-eviction", "node-lifecycle", "serviceaccount")) as plane:
        await plane.node()
        await plane.create(Pod, {"metadata": {"name": "goes"}, "spec": SPEC})
        stays = {**SPEC, "tolerations": [{"key": "k", "operator": "Exists"}]}
        await plane.create(Pod, {"metadata": {"name": "stays"}, "spec": stays})
        taint = {"spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}
        waits = {**SPEC, "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 100}]}
        await plane.create(Pod, {"metadata": {"name": "waits"}, "spec": waits})
        await plane.client.patch(Node, "n1", taint, kind=Patch.STRATEGIC)
        gone = await plane.eventually(Pod, "goes", lambda p: p.metadata.deletionTimestamp)
        reasons = {c.type: c.reason for c in gone.status.conditions}
        assert reasons["DisruptionTarget"] == "DeletionByTaintManager"
        await plane.client.patch(Node, "n1", {"spec": {"taints": None}})
        await plane.count(Event, 1, lambda e: e.message == "Cancelling deletion of Pod default/waits")
        for name in ("stays", "waits"):
            assert (await plane.get(Pod, name)).metadata.deletionTimestamp is None


# Leftovers


def test_leftover_pods() -> None:
    nodes = {"n1": node("n1", conditions=[READY])}
    fine, lost = pod("fine"), pod("lost", node="gone")
    never = pod("never", node="", ending=True)
    ended = [pod(f"e{i}", phase="Succeeded", created=NOW - 100 + i) for i in range(4)]
    plan = podgc.plan([fine, lost, never, *ended], nodes, {"gone"}, 3)
    assert (plan.surplus, plan.orphaned, plan.unscheduled) == ((ended[0],), (lost,), (never,))
    assert podgc.plan(ended, nodes, (), 0).surplus == ()


def test_pods_on_a_node_that_is_out_of_service_go_once_they_are_asked_to() -> None:
    broken = node(
        "n1",
        conditions=[Condition(type="Ready", status="Unknown")],
        taints=[Taint(key="node.kubernetes.io/out-of-service", effect="NoExecute")],
    )
    ending = pod("ending", ending=True)
    assert podgc.plan([ending, pod("fine")], {"n1": broken}, (), 0).out_of_service == (ending,)


async def test_pods_of_a_deleted_node_go(tmp_path: Path) -> None:
    options = Options(pod_gc_quarantine=0.3, pod_gc_period=0.2)
    async with control_plane(tmp_path, only=("podgc", "serviceaccount", "node-lifecycle"), options=options) as plane:
        await plane.node()
        await plane.create(Pod, {"metadata": {"name": "a"}, "spec": SPEC})
        await plane.create(Pod, {"metadata": {"name": "unbound"}, "spec": {"containers": SPEC["containers"]}})
        await plane.client.delete(Node, "n1")
        started = time.monotonic()
        await plane.gone(Pod, "a")
        assert time.monotonic() - started > 0.2
        assert await plane.exists(Pod, "unbound")
