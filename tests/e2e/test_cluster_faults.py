"""Faults of a cluster of two nodes under load: programs killed, the network cut, clocks that are wrong, pods that take all they can.

Whatever happens: what was acknowledged is there, the pods run on, and a Service of pods on both nodes answers on both.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.objects import pod
from tests.support.cluster import Agent, Cluster, Nodes, nodes
from tests.support.command import Kubectl
from tests.support.faults import Watched, containers, cut, deploy, rounds, watched
from tests.support.load import Writers, probing
from tests.support.waiting import eventually

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
GRACE = 4


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    """Two nodes, a web server on each, and a Service of both; a silent node is noticed after four seconds."""
    with nodes(2, ("--node-monitor-period=1s", f"--node-monitor-grace-period={GRACE}s")) as made:
        deploy(made)
        yield made


def test_kill_9_of_everything_at_once() -> None:
    # many more rounds: scripts/bench/faults.py
    seed = time.time_ns() % 100_000
    print(f"seed {seed}")
    # a node may be silent for as long as by default: the pods of one that comes back later than that are taken out of their Services
    with nodes(2) as made:
        deploy(made)
        with watched(made) as load:
            for told in rounds(load, 3, seed):
                print(told)


def test_streams_and_watches_do_not_hold_an_end_up(cluster: Nodes) -> None:
    kubectl = cluster.server.kubectl()
    members = (cluster.server, *cluster.agents)
    kubectl.apply(
        *(pod(f"talks-{n}", "sh", "-c", "while sleep 0.1; do echo so; done", nodeName=member.node_name) for n, member in enumerate(members))
    )
    kubectl.wait("condition=Ready", "pod/talks-0", "pod/talks-1")
    before = containers(kubectl)
    for turn in (members, members[::-1]):  # whoever goes first breaks the streams of the other's pods off
        with clients(kubectl):
            for member in turn:
                began = time.monotonic()
                status = member.stop()
                assert (status, time.monotonic() - began < 10) == (0, True), member.log()[-3000:]
        for member in members:
            member.start()
        cluster.server.ready()
        cluster.ready()
    kubectl("delete", "pod", "--now", "talks-0", "talks-1")
    assert containers(kubectl) == before


@contextlib.contextmanager
def clients(kubectl: Kubectl) -> Iterator[None]:
    """Streams of every kind to both pods, of which nobody reads what comes, and watches."""
    commands = [["get", "pods", "-A", "-w"], ["get", "events", "-A", "-w"]]
    for number in (0, 1):
        name = f"talks-{number}"
        commands += [
            ["logs", "-f", name],
            ["attach", name],
            ["exec", name, "--", "yes"],
            ["exec", "-i", name, "--", "cat"],
            ["port-forward", name, ":80"],
        ]
    spdy = kubectl.with_environment(KUBECTL_REMOTE_COMMAND_WEBSOCKETS="false", KUBECTL_PORT_FORWARD_WEBSOCKETS="false")
    pipe = subprocess.PIPE
    held = [
        subprocess.Popen(speaking.command(*command), stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=speaking.variables())
        for command in commands
        for speaking in (kubectl, spdy)
    ]
    try:
        time.sleep(3)
        assert all(client.poll() is None for client in held), [client.args for client in held if client.poll() is not None]
        yield
    finally:
        for client in held:
            client.kill()
            client.communicate()


def test_a_server_ends_while_it_starts(cluster: Nodes) -> None:
    server = cluster.server
    pid = int(server.containerd().layout.pid.read_text())
    server.stop()
    os.kill(pid, signal.SIGSTOP)  # it waits for its container runtime now
    try:
        since = len(server.log())
        server.start()
        server.logs("serving the API", since)
        time.sleep(0.5)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 4
    finally:
        os.kill(pid, signal.SIGCONT)
    server.start()
    server.ready()
    cluster.ready()


@pytest.mark.parametrize("lost", ["both ways", "to the server", "to the agent"])
def test_the_network_between_the_nodes_is_cut(cluster: Nodes, lost: str) -> None:
    server, (agent,) = cluster.server, cluster.agents
    directions = {"to the server": [(agent, server)], "to the agent": [(server, agent)]}
    kubectl = server.kubectl()
    own = {member.node_name: pod_address(cluster, member.node_name) for member in (server, agent)}
    with contextlib.ExitStack() as stack:
        # pods of a node answer to their own node, whatever happens between the nodes
        probes = [stack.enter_context(probing(name, address)) for name, address in own.items()]
        with Writers(server) as writers:
            before = containers(kubectl)
            with cut(*directions.get(lost, [(agent, server), (server, agent)])):
                eventually(lambda: not cluster.is_ready(agent.node_name), "the silent node is noticed")
                taints = "node.kubernetes.io/unreachable"
                eventually(lambda: taints in kubectl.field(".spec.taints[*].key", "node", agent.node_name), "it is tainted")
                address = kubectl.field(".spec.clusterIP", "service/both")
                eventually(lambda: ready_endpoints(cluster) == 1, "its pods are taken out of the Service")
                with probing(server.node_name, address) as service:
                    writers.go_on(30)
                    kubectl("delete", "pod", "--ignore-not-found", "--now", "--wait=false", "meanwhile")
                    time.sleep(1)
                service.sound(5)
            cluster.ready()
            eventually(lambda: not kubectl.field(".spec.taints[*].key", "node", agent.node_name), "the taint is taken off")
            eventually(lambda: ready_endpoints(cluster) == 2, "its pods come back into the Service")
            with probing(server.node_name, address) as here, probing(agent.node_name, address) as there:
                kubectl.apply(pod("after", nodeName=agent.node_name))
                kubectl("wait", "--for=condition=Ready", "pod/after", "--timeout=40s")
                kubectl("delete", "pod", "after", "--timeout=40s")
            here.sound(3)
            there.sound(3)
        writers.verify()
        assert containers(kubectl) == before, "pods of a node that was silent for less than they tolerate stay"
    for probe in probes:
        probe.sound()


def pod_address(cluster: Nodes, node: str) -> str:
    """Where the web server of a node listens."""
    (item,) = (i for i in cluster.server.kubectl().get("pods", "-l", "part=web")["items"] if i["spec"]["nodeName"] == node)
    return f"{item['status']['podIP']}:8080"


def ready_endpoints(cluster: Nodes) -> int:
    slices = cluster.server.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io/service-name=both")
    return sum(endpoint["conditions"]["ready"] for item in slices["items"] for endpoint in item["endpoints"] or ())


def test_the_clock_of_one_program_is_an_hour_off(cluster: Nodes) -> None:
    """Nodes stay Ready, nobody is evicted, tokens are good, what is made runs; what a schedule missed is not made up for many times."""
    server, (agent,) = cluster.server, cluster.agents
    kubectl = server.kubectl()
    kubectl("create", "cronjob", "hourly", "--image=busybox:test", "--schedule=0 * * * *", "--", "true")
    with watched(cluster) as load:
        turns: tuple[tuple[Cluster | Agent, tuple[int, ...]], ...] = ((server, (1, 0, -1)), (agent, (1, -1)))
        for member, hours_off in turns:
            with wrong_clock(load, member) as turn:
                for hours in hours_off:
                    turn(hours)
                    assert member is not server or clock_of(server) == hours, "the server's clock is right"
                    time.sleep(GRACE / 4)
                    load.works()
                    load.check()
                    token = kubectl("create", "token", "default").strip()
                    assert server.request("GET", "/api/v1/namespaces/default/pods", token=token).status == 403, "known, and without rights"
                    assert all(cluster.is_ready(name) for name in cluster.names)
        events = kubectl("get", "events", "-A", "-o", "jsonpath={.items[*].message}")
        assert "Marking for deletion" not in events, events  # that a deletion is called off is said under the same reason
        assert len(kubectl.get("jobs")["items"]) <= 2
    kubectl("delete", "cronjob", "hourly")


def clock_of(server: Cluster) -> int:
    """How many hours the server is off, as its answers say."""
    made = server.request("POST", "/api/v1/namespaces/default/events", {
        "metadata": {"generateName": "clock-"}, "involvedObject": {"namespace": "default", "kind": "Pod", "name": "x"}, "reason": "Clock",
    })  # fmt: skip
    assert made.status == 201, made
    stamp = datetime.datetime.fromisoformat(made.body["metadata"]["creationTimestamp"])
    return round((stamp - datetime.datetime.now(datetime.UTC)).total_seconds() / 3600)


@contextlib.contextmanager
def wrong_clock(load: Watched, member: Cluster | Agent) -> Iterator[Callable[[int], None]]:
    """The program runs with a clock that can be turned; containerd and the pods have the right one."""
    turned, library = member.directory / "clock", member.directory / "clock.so"
    turned.write_bytes(struct.pack("q", 0))
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, Path(__file__).parents[1] / "support" / "clock.c", "-ldl"], check=True)

    def turn(hours: int) -> None:
        with turned.open("r+b") as file:
            file.write(struct.pack("q", hours * 3600))

    member.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(turned)}
    try:
        restart(load, member)
        yield turn
    finally:
        member.environment = {}
        restart(load, member)


def restart(load: Watched, member: Cluster | Agent) -> None:
    member.stop()
    member.start()
    load.nodes.server.ready(90)
    load.works()


def test_pods_that_take_all_the_memory_they_may(cluster: Nodes) -> None:
    server, (agent,) = cluster.server, cluster.agents
    kubectl = server.kubectl()
    limits = {"limits": {"memory": "32Mi", "cpu": "500m"}}
    with watched(cluster) as load:
        for number, member in enumerate((server, agent)):
            kubectl.apply(
                pod(f"eats-{number}", "sh", "-c", "exec tail /dev/zero", nodeName=member.node_name, resources=limits),
                pod(
                    f"grows-{number}",
                    "sh",
                    "-c",
                    "while true; do (head -c 100m /dev/zero | tail); done",
                    nodeName=member.node_name,
                    resources=limits,
                ),
            )
        for number in (0, 1):
            path = ".status.containerStatuses[0].lastState.terminated.reason"
            eventually(lambda: kubectl.field(path, f"pod/eats-{number}") == "OOMKilled", "it is killed for its memory")  # noqa: B023
        load.works()
        load.check()
        kubectl("delete", "pod", "--now", "eats-0", "eats-1", "grows-0", "grows-1")
    assert all(cluster.is_ready(name) for name in cluster.names)
