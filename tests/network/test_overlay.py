"""The way to other nodes' pods: the plan, and the kernel that holds it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import msgspec
import pytest

from minikube_py.aio import Health
from minikube_py.netlink import MachineChanges
from minikube_py.network import Overlay, OverlayOptions, links, vxlan
from minikube_py.network.overlay import HOST_GW, NONE, VXLAN, Peer, Plan, Route, ethernet_address, peer, plan, pod_mtu
from minikube_py.types.core import Node, NodeAddress, NodeSpec, NodeStatus
from minikube_py.types.meta import ObjectMeta
from tests.support.netns import entered, namespace, run
from tests.support.waiting import until

NAME = f"mkpyov{os.getpid()}"
_MTU_DISCOVER, _DISCOVER_DO, _HEADERS = 10, 2, 28
A = Peer("a", "10.1.0.1", ("10.42.0.0/24",))
B = Peer("b", "10.1.0.2", ("10.42.1.0/24",))
C = Peer("c", "10.1.0.3", ("10.42.2.0/24",))


# The plan


def test_every_other_node_has_a_route_and_a_tunnel_end() -> None:
    wanted = plan(VXLAN, "a", [A, B, C])
    assert wanted.routes == {Route("10.42.1.0/24", "10.42.1.0", True), Route("10.42.2.0/24", "10.42.2.0", True)}
    assert {(end.address, end.ethernet, end.node) for end in wanted.ends} == {
        ("10.42.1.0", ethernet_address("10.1.0.2"), "10.1.0.2"),
        ("10.42.2.0", ethernet_address("10.1.0.3"), "10.1.0.3"),
    }
    assert (wanted.address, wanted.local, wanted.ethernet) == ("10.42.0.0", "10.1.0.1", ethernet_address("10.1.0.1"))


def test_nodes_agree_about_every_end() -> None:
    plans = {one.name: plan(VXLAN, one.name, [A, B, C]) for one in (A, B, C)}
    for one, other in itertools.permutations(plans.values(), 2):
        assert (other.address, other.ethernet, other.local) in one.ends


def test_nodes_on_one_network_need_no_tunnel() -> None:
    assert plan(HOST_GW, "a", [A, B]) == Plan(frozenset({Route("10.42.1.0/24", "10.1.0.2", False)}))


def test_there_is_nothing_to_do_alone_or_without_a_range_or_without_an_overlay() -> None:
    assert plan(VXLAN, "a", [A]) == plan(VXLAN, "a", [B, C]) == plan(NONE, "a", [A, B]) == Plan()


def test_a_range_that_is_taken_is_nobody_elses_and_a_strangers_ip_version_is_left_out() -> None:
    greedy = Peer("d", "10.1.0.4", ("10.42.0.0/23",))
    again = Peer("e", "10.1.0.5", ("10.42.1.0/24",))
    six = Peer("f", "fd00::6", ("fd01::/64",))
    assert {r.destination for r in plan(VXLAN, "a", [A, B, greedy, again, six]).routes} == {"10.42.1.0/24"}
    assert next(iter(plan(VXLAN, "a", [A, B, again]).ends)).node == "10.1.0.2"


def test_a_node_counts_once_it_has_a_range_and_an_address() -> None:
    def node(cidr: str, *addresses: tuple[str, str]) -> Node:
        status = NodeStatus(addresses=tuple(NodeAddress(type=t, address=a) for t, a in addresses))
        return Node(metadata=ObjectMeta(name="n"), spec=NodeSpec(podCIDR=cidr), status=status)

    assert peer(node("10.42.0.0/24", ("Hostname", "n"), ("InternalIP", "10.1.0.1"))) == Peer("n", "10.1.0.1", ("10.42.0.0/24",))
    assert peer(node("", ("InternalIP", "10.1.0.1"))) is None and peer(node("10.42.0.0/24", ("Hostname", "n"))) is None


def test_the_mtu_leaves_room_for_the_tunnel() -> None:
    assert [pod_mtu(VXLAN, 1500, "10.1.0.1"), pod_mtu(VXLAN, 0, "10.1.0.1"), pod_mtu(VXLAN, 9000, "fd00::1")] == [1450, 1450, 8930]
    assert [pod_mtu(HOST_GW, 1500, "10.1.0.1"), pod_mtu(NONE, 0, "10.1.0.1")] == [1500, 0]


# The kernel


@pytest.fixture(autouse=True)
def _unblocked_loop() -> None:
    """It is the tests' own commands that hold the loop here."""


@pytest.fixture
def lan() -> Iterator[list[str]]:
    """Three namespaces on one bridge, each with a "pod" address of its range."""
    with ExitStack() as stack:
        switch = stack.enter_context(namespace(f"{NAME}s"))
        run("ip", "-n", switch, "link", "add", "name", "lan0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "lan0", "up")
        names = []
        for number in range(3):
            name = stack.enter_context(namespace(f"{NAME}{number}"))
            names.append(name)
            run("ip", "-n", switch, "link", "add", f"p{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "-n", switch, "link", "set", f"p{number}", "master", "lan0", "up")
            run("ip", "-n", name, "addr", "add", f"10.1.0.{number + 1}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            run("ip", "-n", name, "addr", "add", f"10.42.{number}.1/32", "dev", "lo")
        yield names


def reaches(lan: list[str], source: int, target: int, size: int = 84) -> bool:
    """Whether a packet of so many bytes, which must not be cut up, gets from one node's pod address to another's."""
    with entered(lan[target]):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver:
        receiver.bind((f"10.42.{target}.1", 0))
        receiver.settimeout(0.5)
        with entered(lan[source]):
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sender:
            sender.bind((f"10.42.{source}.1", 0))
            sender.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _DISCOVER_DO)
            try:
                sender.sendto(b"x" * (size - _HEADERS), receiver.getsockname())
                return len(receiver.recv(9000)) == size - _HEADERS
            except OSError:
                return False


def apply(name: str, wanted: Plan, mtu: int = 1450) -> list[vxlan.Problem]:
    with entered(name):
        return vxlan.apply(wanted, mtu)


@pytest.mark.cluster
def test_pods_are_reached_through_the_tunnel_at_its_full_size(lan: list[str]) -> None:
    for name, one in zip(lan, (A, B, C), strict=True):
        assert apply(name, plan(VXLAN, one.name, [A, B, C])) == []
    assert reaches(lan, 0, 1) and reaches(lan, 2, 0)
    assert reaches(lan, 0, 2, 1450) and not reaches(lan, 0, 2, 1451)
    details = json.loads(run("ip", "-n", lan[0], "-d", "-j", "link", "show", vxlan.INTERFACE))[0]["linkinfo"]["info_data"]
    assert (details["port"], details["learning"], details["local"]) == (8472, False, "10.1.0.1")


@pytest.mark.cluster
def test_what_has_gone_is_taken_away_and_what_stays_is_not_touched(lan: list[str]) -> None:
    for name, one in zip(lan, (A, B, C), strict=True):
        apply(name, plan(VXLAN, one.name, [A, B, C]))
    with entered(lan[0]):
        index = json.loads(run("ip", "-j", "link", "show", vxlan.INTERFACE))[0]["ifindex"]
    moved = C._replace(address="10.1.0.9")
    assert apply(lan[0], plan(VXLAN, "a", [A, B, moved])) == []
    assert reaches(lan, 0, 1) and not reaches(lan, 0, 2)
    assert json.loads(run("ip", "-n", lan[0], "-j", "link", "show", vxlan.INTERFACE))[0]["ifindex"] == index
    apply(lan[0], plan(VXLAN, "a", [A, B]))
    assert len(json.loads(run("ip", "-n", lan[0], "-j", "route", "show", "proto", str(vxlan.ROUTE_PROTOCOL)))) == 1
    assert len(json.loads(run("ip", "-n", lan[0], "-j", "neigh", "show", "dev", vxlan.INTERFACE, "nud", "permanent"))) == 1
    forwards = json.loads(run("bridge", "-n", lan[0], "-j", "fdb", "show", "dev", vxlan.INTERFACE))
    assert [entry["dst"] for entry in forwards] == ["10.1.0.2"]
    apply(lan[0], Plan())
    assert vxlan.INTERFACE not in run("ip", "-n", lan[0], "link") and "10.42" not in run("ip", "-n", lan[0], "route")


@pytest.mark.cluster
def test_what_somebody_took_away_comes_back(lan: list[str]) -> None:
    for name, one in zip(lan, (A, B, C), strict=True):
        apply(name, plan(VXLAN, one.name, [A, B, C]))
    run("ip", "-n", lan[0], "link", "del", vxlan.INTERFACE)
    assert not reaches(lan, 0, 1)
    apply(lan[0], plan(VXLAN, "a", [A, B, C]))
    assert reaches(lan, 0, 1)
    apply(lan[0], plan(VXLAN, "a", [A, B, C]), mtu=1400)
    assert not reaches(lan, 0, 1, 1450) and reaches(lan, 0, 1, 1400)


@pytest.mark.cluster
def test_nodes_of_one_network_are_gateways_and_others_are_a_problem_that_is_told(lan: list[str]) -> None:
    for name, one in zip(lan, (A, B, C), strict=True):
        apply(name, plan(VXLAN, one.name, [A, B, C]))
        far = Peer("far", "10.9.9.9", ("10.42.9.0/24",))
        problems = apply(name, plan(HOST_GW, one.name, [A, B, C, far]))
        assert [p.what for p in problems] == ["route to 10.42.9.0/24 by 10.9.9.9"]
        with entered(name):
            assert links.mtu_of(vxlan.INTERFACE) == 0
    assert reaches(lan, 0, 1, 1500) and reaches(lan, 1, 2)
    with entered(lan[0]):
        vxlan.remove()
    assert not reaches(lan, 0, 1)


@pytest.mark.cluster
def test_the_mtu_is_that_of_the_nodes_own_interface(lan: list[str]) -> None:
    run("ip", "-n", lan[0], "link", "set", "eth0", "mtu", "1400")
    with entered(lan[0]):
        assert links.mtu_by_address("10.1.0.1") == 1400
        assert links.mtu_by_address("10.9.9.9") == 0


@pytest.mark.cluster
def test_the_tunnels_mtu_changes_in_place_and_checksums_can_be_computed_here(lan: list[str]) -> None:
    wanted = plan(VXLAN, "a", [A, B, C])
    apply(lan[0], wanted)
    with entered(lan[0]):
        index = socket.if_nametoindex(vxlan.INTERFACE)
        vxlan.apply(wanted, 1350)
        assert (links.mtu_of(vxlan.INTERFACE), socket.if_nametoindex(vxlan.INTERFACE)) == (1350, index)
        assert links.checksum_offload(vxlan.INTERFACE)
        links.set_checksum_offload(vxlan.INTERFACE, False)
        assert not links.checksum_offload(vxlan.INTERFACE)
        details = json.loads(run("ethtool", "--json", "-k", vxlan.INTERFACE))[0] if shutil.which("ethtool") else {}
        assert not details or not details["tx-checksumming"]["active"]


class Peers:
    """The part of an informer that the overlay uses."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.synced = asyncio.Event()
        self.synced.set()

    def list(self) -> Sequence[Node]:
        return self.nodes

    def listen(self, listener: Callable[[Node | None, Node | None], None]) -> None: ...


def as_node(of: Peer) -> Node:
    body = {
        "metadata": {"name": of.name},
        "spec": {"podCIDR": of.pod_cidrs[0]},
        "status": {"addresses": [{"type": "InternalIP", "address": of.address}]},
    }
    return msgspec.convert(body, Node)


@pytest.mark.cluster
async def test_the_overlay_follows_the_link_below_and_tells_of_a_tunnel_that_carries_nothing(lan: list[str]) -> None:
    apply(lan[1], plan(VXLAN, "b", [A, B]))
    run("nsenter", f"--net=/run/netns/{lan[1]}", "iptables-legacy", "-A", "INPUT", "-p", "udp", "--dport", "8472", "-j", "DROP")
    health = Health()
    with entered(lan[0]):
        changes = MachineChanges(settle_seconds=0.02)
        overlay = Overlay(Peers(as_node(A), as_node(B)), OverlayOptions("a", VXLAN, 0.1), changes)  # type: ignore[arg-type]
        tasks = [asyncio.create_task(changes.run()), asyncio.create_task(overlay.run(health))]
        try:
            silence = "nothing comes back through the tunnel to 10.1.0.2"
            await until(lambda: silence in health.problem, 20)
            assert links.checksum_offload(vxlan.INTERFACE), "it was not the checksums"
            run("nsenter", f"--net=/run/netns/{lan[1]}", "iptables-legacy", "-F", "INPUT")
            await until(lambda: not health.problem, 20)
            assert links.mtu_of(vxlan.INTERFACE) == 1450
            run("ip", "link", "set", "eth0", "mtu", "1400")
            await until(lambda: links.mtu_of(vxlan.INTERFACE) == 1350)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
