"""The rules in a real kernel: two network namespaces, real sockets, iptables of both variants."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from minikube_py.netfilter import Family, Netfilter, Variant
from minikube_py.proxy.frame import Tables, table
from minikube_py.proxy.model import Backend, ServicePort
from minikube_py.proxy.rules import Frame, service_rules
from tests.support.netns import entered, namespace, run, veth

pytestmark = pytest.mark.cluster

FRAME = Frame("10.43.0.0/16", "10.42.0.0/16")
NODE, POD, OTHER, OUTSIDE = "mkpy-t-node", "mkpy-t-pod", "mkpy-t-other", "mkpy-t-out"

DROPPED = 0.15  # how long a call that is not to be answered may hold the loop


def port(*ips: str, protocol: str = "tcp", affinity: int = 0, number: int = 80, local: bool = False) -> ServicePort:
    backends = tuple(Backend(ip, 8080) for ip in ips)
    return ServicePort("d/web", protocol, "10.43.0.7", number, 30080, (), (), (), affinity, False, local, backends, backends)


@pytest.fixture(autouse=True)
def _unblocked_loop() -> None:
    """It is the tests' own calls and commands that hold the loop here."""


@pytest.fixture
def nodes() -> Iterator[None]:
    """A node with two pods, 10.42.0.2 and 10.42.1.2, each on a cable, and the node's route to the service range."""
    with namespace(NODE), namespace(POD), namespace(OTHER):
        for pod, net in ((POD, "10.42.0"), (OTHER, "10.42.1")):
            veth(NODE, pod, f"{net}.1/24", f"{net}.2/24")
            run("ip", "-n", pod, "route", "add", "default", "via", f"{net}.1")
        run("ip", "-n", NODE, "route", "add", "10.43.0.0/16", "dev", "lo", "src", "10.42.0.1")
        with entered(NODE):
            run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.route_localnet=1")
            yield


@contextmanager
def answering(ip: str, port_number: int = 8080) -> Iterator[None]:
    """A TCP server in the pod that tells every caller its own address."""
    with entered(POD if ip == "10.42.0.2" else OTHER):
        server = socket.create_server((ip, port_number))
    server.settimeout(10)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(ip.encode())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def call(ip: str, number: int = 80, timeout: float = 3) -> str:
    with socket.create_connection((ip, number), timeout=timeout) as connection:
        return connection.recv(100).decode()


@contextmanager
def outside() -> Iterator[None]:
    """A machine on another network, whose packets for 192.0.2.0/24 come to the node as a load balancer hands them on."""
    with namespace(OUTSIDE):
        veth(NODE, OUTSIDE, "198.51.100.1/24", "198.51.100.2/24")
        run("ip", "-n", OUTSIDE, "route", "add", "default", "via", "198.51.100.1")
        run("ip", "-n", NODE, "route", "replace", "192.0.2.0/24", "via", "10.42.1.2")  # where what is not translated would go
        try:
            with entered(OUTSIDE):
                yield
        finally:
            # with its namespace the cable goes only some time later
            run("ip", "-n", OUTSIDE, "link", "del", "eth0")


@pytest.fixture(params=[Variant.LEGACY, Variant.NFT], ids=lambda v: v.value)
def netfilter(request: pytest.FixtureRequest, nodes: None) -> Netfilter:
    return Netfilter(Family.IPV4, request.param)


async def test_cluster_ip_and_node_port_reach_every_backend(netfilter: Netfilter) -> None:
    with answering("10.42.0.2"), answering("10.42.1.2"):
        await netfilter.apply("t", table([service_rules(port("10.42.0.2", "10.42.1.2"), FRAME)], FRAME))
        assert {call("10.43.0.7") for _ in range(40)} == {"10.42.0.2", "10.42.1.2"}
        assert call("10.42.0.1", 30080).startswith("10.42.")
        assert call("127.0.0.1", 30080).startswith("10.42.")
        with entered(POD):
            # a pod that reaches itself through its own Service: the hairpin
            assert {call("10.43.0.7") for _ in range(40)} == {"10.42.0.2", "10.42.1.2"}
            assert call("10.42.0.1", 30080).startswith("10.42.")


async def test_affinity_keeps_a_client_with_its_backend(netfilter: Netfilter) -> None:
    with answering("10.42.0.2"), answering("10.42.1.2"):
        await netfilter.apply("t", table([service_rules(port("10.42.0.2", "10.42.1.2", affinity=60), FRAME)], FRAME))
        assert len({call("10.43.0.7") for _ in range(20)}) == 1


async def test_the_local_policy_drops_where_nobody_is_but_pods_and_the_node_reach_everybody(netfilter: Netfilter) -> None:
    with answering("10.42.1.2"):
        elsewhere = port("10.42.1.2", local=True)._replace(local_backends=(), external_ips=("192.0.2.9",))
        await netfilter.apply("t", table([service_rules(elsewhere, FRAME)], FRAME))
        assert call("10.42.0.1", 30080) == "10.42.1.2", "the node itself"
        with entered(POD):
            assert call("10.42.0.1", 30080) == "10.42.1.2", "a pod"
        with outside(), pytest.raises(TimeoutError):
            call("198.51.100.1", 30080, DROPPED)
        await netfilter.apply("t", table([service_rules(elsewhere._replace(local_backends=elsewhere.backends), FRAME)], FRAME))
        with outside():
            assert call("198.51.100.1", 30080) == "10.42.1.2"
            assert call("192.0.2.9") == "10.42.1.2"


async def test_only_some_sources_come_to_a_load_balancers_address(netfilter: Netfilter) -> None:
    with answering("10.42.0.2"):
        open_ = port("10.42.0.2")._replace(load_balancer_ips=("192.0.2.9",))
        for ranges, let_in in (((), True), (("198.51.100.0/24",), True), (("203.0.113.0/24",), False)):
            await netfilter.apply("t", table([service_rules(open_._replace(source_ranges=ranges), FRAME)], FRAME))
            with outside():
                if let_in:
                    assert call("192.0.2.9") == "10.42.0.2"
                else:
                    with pytest.raises(TimeoutError):
                        call("192.0.2.9", timeout=DROPPED)
                assert call("198.51.100.1", 30080) == "10.42.0.2", "node ports are open to all"


async def test_what_is_added_or_removed_among_many_is_an_edit_that_the_kernel_takes(netfilter: Netfilter) -> None:
    tables = Tables(FRAME)
    for number in range(40):
        tables.put(f"d/s{number}", [service_rules(port("10.42.1.2")._replace(name=f"d/s{number}", port=1000 + number, node_port=0), FRAME)])
    await netfilter.apply("t", tables.rules())
    with answering("10.42.0.2"):
        tables.put("d/web", [service_rules(port("10.42.0.2"), FRAME)])
        tables.put("d/s7", [])
        await netfilter.apply("t", tables.rules())
        assert call("10.43.0.7") == "10.42.0.2"
    whole = await netfilter.read()
    assert len(whole.chains["nat", "KUBE-SERVICES"]) == 41
    assert not await netfilter.check()
    tables.put("d/web", [])
    await netfilter.apply("t", tables.rules())
    with pytest.raises(ConnectionRefusedError):
        call("10.43.0.7")


async def test_no_endpoints_is_refused_at_once(netfilter: Netfilter) -> None:
    await netfilter.apply("t", table([service_rules(port(), FRAME)], FRAME))
    for address in (("10.43.0.7", 80), ("10.42.0.1", 30080)):
        with pytest.raises(ConnectionRefusedError):
            call(*address)
        with entered(POD), pytest.raises(ConnectionRefusedError):
            call(*address)


async def test_the_guard_rejects_what_matches_no_service(netfilter: Netfilter) -> None:
    await netfilter.apply("t", table([], FRAME))
    with pytest.raises(ConnectionRefusedError):
        call("10.43.9.9", 81)
    with entered(POD), pytest.raises(ConnectionRefusedError):
        call("10.43.9.9", 81)


async def test_the_guard_lets_an_address_of_the_node_itself_through(netfilter: Netfilter) -> None:
    run("ip", "addr", "add", "10.43.0.10/32", "dev", "lo")
    await netfilter.apply("t", table([], FRAME))
    with socket.create_server(("10.43.0.10", 53)), entered(POD):
        socket.create_connection(("10.43.0.10", 53), timeout=3).close()


async def test_changes_are_differences_and_removal_is_whole(netfilter: Netfilter) -> None:
    with answering("10.42.0.2"), answering("10.42.1.2"):
        await netfilter.apply("t", table([service_rules(port("10.42.0.2"), FRAME)], FRAME))
        assert call("10.43.0.7") == "10.42.0.2"
        await netfilter.apply("t", table([service_rules(port("10.42.1.2"), FRAME)], FRAME))
        assert call("10.43.0.7") == "10.42.1.2"
        await netfilter.remove()
    saved = await netfilter.read()
    assert not [chain for chain in saved.chains if chain[1].startswith(("KUBE-", "MKPY-"))]
    assert not any(rules for rules in saved.chains.values())


async def test_rules_that_somebody_else_flushed_come_back(netfilter: Netfilter) -> None:
    with answering("10.42.0.2"):
        await netfilter.apply("t", table([service_rules(port("10.42.0.2"), FRAME)], FRAME))
        assert not await netfilter.check()
        run(f"iptables-{netfilter._variant.value}", "-t", "nat", "-F")
        assert await netfilter.check()
        assert call("10.43.0.7") == "10.42.0.2"


async def test_a_second_process_takes_the_rules_over(netfilter: Netfilter) -> None:
    with answering("10.42.0.2"):
        await netfilter.apply("t", table([service_rules(port("10.42.0.2"), FRAME)], FRAME))
        again = Netfilter(Family.IPV4, netfilter._variant)
        await again.apply("t", table([service_rules(port("10.42.0.2"), FRAME)], FRAME))
        assert call("10.43.0.7") == "10.42.0.2"
        saved = await again.read()
        assert saved.chains["nat", "OUTPUT"].count('-m comment --comment "kubernetes service portals" -j KUBE-SERVICES') == 1
