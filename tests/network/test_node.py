"""The pod network against a real kernel, in network namespaces."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikube_py.aio import Health, cancel
from minikube_py.netfilter import Family, Netfilter, Variant
from minikube_py.network import NetworkOptions, PodNetwork, links
from minikube_py.network.cni import FILE_NAME
from minikube_py.network.node import teardown
from minikube_py.types.core import Node, NodeSpec
from minikube_py.types.meta import ObjectMeta
from tests.support.netns import entered, namespace, run, veth

pytestmark = pytest.mark.cluster
NAME = f"mkpynet{os.getpid()}"


@pytest.fixture
def inside() -> Iterator[None]:
    with namespace(NAME), entered(NAME):
        yield


def network(tmp_path: Path, cluster_cidr: str = "10.42.0.0/16") -> tuple[PodNetwork, NetworkOptions]:
    options = NetworkOptions("node", cluster_cidr, tmp_path / "net.d", tmp_path / "ipam")
    return PodNetwork(Nodes(), Netfilter(Family.IPV4, Variant.LEGACY), options), options  # type: ignore[arg-type]


class Nodes:
    """The part of an informer that the network uses; its views are set by the test."""

    def __init__(self) -> None:
        self.node: Node | None = None

    def get(self, key: str) -> Node | None:
        return self.node

    def listen(self, listener: object) -> None:
        self.listener = listener


async def test_prepare_turns_forwarding_on_and_keeps_pod_addresses_on_the_node(inside: None, tmp_path: Path) -> None:
    net, options = network(tmp_path)
    await net.prepare()
    await net.prepare()
    assert links.rejected_ranges() == ["10.42.0.0/16"]
    assert run("iptables-legacy-save").count("-j MKPY-MASQUERADE") == 1
    assert run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"
    assert run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables").strip() == "1"
    assert run("ip", "route", "show", "type", "unreachable").split()[:2] == ["unreachable", "10.42.0.0/16"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending, pytest.raises(OSError, match=os.strerror(errno.EHOSTUNREACH)):
        sending.sendto(b"x", ("10.42.7.7", 9))
    await teardown(net._netfilter, options.cni_conf, options.ipam_dir)
    assert run("ip", "route", "show", "type", "unreachable") == ""
    assert "MKPY" not in run("iptables-legacy-save")


async def test_a_more_specific_route_wins_over_the_unreachable_range(inside: None, tmp_path: Path) -> None:
    net, _ = network(tmp_path)
    run("ip", "link", "add", "cni0", "type", "bridge")
    run("ip", "addr", "add", "10.42.3.1/24", "dev", "cni0")
    run("ip", "link", "set", "cni0", "up")
    await net.prepare()
    assert "dev cni0" in run("ip", "route", "get", "10.42.3.9")


async def test_the_configuration_is_written_when_the_range_changes_and_only_then(inside: None, tmp_path: Path) -> None:
    net, options = network(tmp_path)
    assert await net.apply(("10.42.0.0/24",))
    path = options.cni_conf / FILE_NAME
    written = path.stat().st_mtime_ns
    assert not await net.apply(("10.42.0.0/24",))
    again, _ = network(tmp_path)
    assert not await again.apply(("10.42.0.0/24",)), "a restart finds what it would write"
    assert path.stat().st_mtime_ns == written
    assert await again.apply(("10.42.5.0/24",))
    assert "10.42.5.0/24" in path.read_text()
    assert [entry.name for entry in options.cni_conf.iterdir()] == [FILE_NAME]


async def test_a_bridge_of_another_range_is_removed_and_one_of_this_range_stays(inside: None, tmp_path: Path) -> None:
    run("ip", "link", "add", "cni0", "type", "bridge")
    run("ip", "addr", "add", "10.99.0.1/24", "dev", "cni0")
    assert links.address_of("cni0") == ipaddress.IPv4Address("10.99.0.1")
    net, options = network(tmp_path)
    await net.apply(("10.99.0.0/24",))
    assert links.address_of("cni0") is not None
    await net.apply(("10.42.0.0/24",))
    assert links.address_of("cni0") is None
    assert "cni0" not in run("ip", "link")
    await teardown(net._netfilter, options.cni_conf, options.ipam_dir)
    assert not (options.cni_conf / FILE_NAME).exists()


async def test_it_follows_the_nodes_pod_cidr(inside: None, tmp_path: Path) -> None:
    net, options = network(tmp_path)
    nodes: Nodes = net._nodes  # type: ignore[assignment]
    health = Health()
    running = asyncio.create_task(net.run(health), name="network")
    await asyncio.sleep(0)

    async def change(spec: NodeSpec) -> None:
        nodes.node = Node(metadata=ObjectMeta(name="node"), spec=spec)
        nodes.listener(None, nodes.node)  # type: ignore[operator]
        await asyncio.sleep(0.05)

    await change(NodeSpec())
    assert health.problem == "the node has no pod CIDR yet"
    await change(NodeSpec(podCIDR="10.42.1.0/24", podCIDRs=("10.42.1.0/24",)))
    assert health.problem == ""
    conf = json.loads((options.cni_conf / FILE_NAME).read_text())
    assert conf["plugins"][0]["ipam"]["ranges"] == [[{"subnet": "10.42.1.0/24"}]]
    await cancel(running)


async def test_the_uplinks_mtu_is_the_default_routes(inside: None) -> None:
    assert links.uplink_mtu() == 0
    with namespace(NAME + "b"):
        veth(NAME + "b", NAME, "192.0.2.1/24", "192.0.2.2/24")
        run("ip", "link", "set", "eth0", "mtu", "1380")
        run("ip", "route", "add", "default", "via", "192.0.2.1")
        assert links.uplink_mtu() == 1380
