"""A cluster of two nodes: pods, services, names and streams across them, with and without the server."""

from __future__ import annotations

import contextlib
import datetime
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minikube_py.pki import issue
from tests.e2e.objects import pod, service, web
from tests.support.agents import Agent, Nodes
from tests.support.command import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def kubectl(cluster: Nodes) -> Kubectl:
    """kubectl, with a client pod and a web server on each node, and a Service of both servers."""
    kubectl = cluster.server.kubectl()
    for number, name in enumerate(cluster.names):
        kubectl.apply(pod(f"client-{number}", nodeName=name))
        made = web(f"web-{number}")
        made["spec"]["template"]["metadata"]["labels"]["part"] = "web"
        made["spec"]["template"]["spec"]["nodeName"] = name
        kubectl.apply(made, service(f"web-{number}"))
    both = service("both")
    both["spec"]["selector"] = {"part": "web"}
    kubectl.apply(both)
    for number in range(len(cluster.names)):
        kubectl.wait("condition=Available", f"deployment/web-{number}")
        kubectl.wait("condition=Ready", f"pod/client-{number}")
    return kubectl


def wget(kubectl: Kubectl, number: int, host: str) -> str:
    return kubectl("exec", f"client-{number}", "--", "timeout", "5", "wget", "-qO-", f"http://{host}").strip()


def eventually(look: Callable[[], object], what: str, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def cluster_ip(kubectl: Kubectl, name: str) -> str:
    return kubectl.field(".spec.clusterIP", "service", name)


def on_node(agent: Agent, address: str) -> str:
    """What a web server answers to the agent's node itself; "" for nothing."""
    return agent.on_node("timeout", "2", "busybox", "wget", "-qO-", f"http://{address}").stdout.strip()


def resolves(agent: Agent, name: str) -> bool:
    return agent.on_node("busybox", "nslookup", name, "10.43.0.10").returncode == 0


def containers(node: str) -> dict[int, str]:
    """The first processes of a node's containers, each with its start time."""
    found = {}
    for procs in Path(f"/sys/fs/cgroup/memory/{node}").rglob("cgroup.procs"):
        for pid in procs.read_text().split():
            with contextlib.suppress(OSError):  # what a server forks for a request comes and goes
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                if "containerd-shim" in Path(f"/proc/{state[1]}/comm").read_text():
                    found[int(pid)] = state[19]
    return found


@contextmanager
def answering(agent: Agent, address: str) -> Iterator[list[str]]:
    """Asks a Service over and over from the agent's node; the list fills with what was not answered."""
    failures: list[str] = []
    done = threading.Event()
    asked = 0

    def ask() -> None:
        nonlocal asked
        while not done.is_set():
            asked += 1
            if not on_node(agent, address):
                failures.append(f"request {asked}")

    asking = threading.Thread(target=ask, name="asking")
    asking.start()
    try:
        yield failures
    finally:
        done.set()
        asking.join()
    assert asked > 5


@contextmanager
def without_server(cluster: Nodes) -> Iterator[None]:
    """The server is away for the block, and ready again after it."""
    cluster.server.stop()
    try:
        yield
    finally:
        cluster.server.start()
        cluster.server.ready()


def test_pods_of_different_nodes_talk_under_their_own_addresses(cluster: Nodes, kubectl: Kubectl) -> None:
    for here, there in ((0, 1), (1, 0)):
        address = kubectl.field(".items[0].status.podIP", "pods", "-l", f"app=web-{there}")
        assert wget(kubectl, here, f"{address}:8080").startswith(f"web-{there}-")
    ranges = {node["spec"]["podCIDR"] for node in kubectl.get("nodes")["items"]}
    assert len(ranges) == 2


def test_services_and_names_answer_on_both_nodes_from_pods_of_both(cluster: Nodes, kubectl: Kubectl, agent: Agent) -> None:
    for number in (0, 1):
        answers = {wget(kubectl, number, "both.default.svc.cluster.local").rsplit("-", 2)[0] for _ in range(20)}
        assert answers == {"web-0", "web-1"}
        assert wget(kubectl, number, f"web-{1 - number}").startswith(f"web-{1 - number}-")
    assert on_node(agent, cluster_ip(kubectl, "web-0")).startswith("web-0-")


def test_the_api_is_reached_from_the_other_node_by_its_service(kubectl: Kubectl) -> None:
    done = kubectl(
        "exec", "client-1", "--", "sh", "-c", "echo | nc -w 3 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT && echo connected"
    )
    assert "connected" in done


def test_streams_reach_pods_of_the_other_node(kubectl: Kubectl) -> None:
    kubectl.apply(pod("talker", "sh", "-c", "echo said; sleep 100000", nodeName=kubectl.field(".spec.nodeName", "pod", "client-1")))
    kubectl.wait("condition=Ready", "pod/talker")
    assert kubectl("logs", "talker") == "said\n"
    assert kubectl.result("exec", "-i", "client-1", "--", "sh", "-c", "cat; exit 3", stdin="typed").stdout == "typed"
    assert kubectl.result("exec", "client-1", "--", "sh", "-c", "exit 3").returncode == 3


def test_the_nodes_identity_reads_its_own_and_nothing_else(cluster: Nodes, kubectl: Kubectl, agent: Agent) -> None:
    kubectl("create", "secret", "generic", "hidden", "--from-literal=a=b")
    identity = agent.data / "agent" / "pki" / "client-kubelet.pem"
    assert identity.stat().st_mode & 0o777 == 0o600
    request = cluster.server.request
    assert request("GET", f"/api/v1/nodes/{agent.namespace}", certificate=identity).status == 200
    for path in (
        "/api/v1/nodes",
        f"/api/v1/nodes/{cluster.server.node_name}",
        "/api/v1/pods",
        "/api/v1/namespaces/default/secrets/hidden",
        "/apis/discovery.k8s.io/v1/endpointslices",
    ):
        assert request("GET", path, certificate=identity).status == 403, path
    proxy = agent.data / "agent" / "pki" / "client-kube-proxy.pem"
    assert request("GET", "/apis/discovery.k8s.io/v1/endpointslices", certificate=proxy).status == 200
    assert request("GET", "/api/v1/namespaces/default/secrets/hidden", certificate=proxy).status == 403


def test_while_the_server_is_away_everything_goes_on_and_changes_arrive_afterwards(cluster: Nodes, kubectl: Kubectl, agent: Agent) -> None:
    address = cluster_ip(kubectl, "both")
    before = containers(agent.namespace)
    with answering(agent, address) as failures:
        with without_server(cluster):
            assert resolves(agent, "both.default.svc.cluster.local")
            time.sleep(3)
        kubectl.apply(service("after-restart", app="web-0"))
        fresh = cluster_ip(kubectl, "after-restart")
        eventually(lambda: on_node(agent, fresh).startswith("web-0-"), "the new Service did not arrive on the agent's node")
        eventually(lambda: resolves(agent, "after-restart.default.svc.cluster.local"), "its name did not arrive")
    assert failures == []
    assert containers(agent.namespace) == before
    assert cluster.is_ready(agent.namespace)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_starts_while_the_server_is_away_serves_from_its_checkpoint(
    cluster: Nodes, kubectl: Kubectl, agent: Agent, number: signal.Signals
) -> None:
    address = cluster_ip(kubectl, "both")
    before = containers(agent.namespace)
    # the checkpoint is written about once a second
    time.sleep(1.5)
    with answering(agent, address) as failures:
        with without_server(cluster):
            agent.stop(number)
            since = len(agent.log())
            agent.start()
            agent.logs("the node runs", since)
            eventually(lambda: resolves(agent, "both.default.svc.cluster.local"), "DNS does not answer from the checkpoint")
            time.sleep(3)
            assert containers(agent.namespace) == before, "its pods were touched"
            assert "10.42." in agent.on_node("ip", "route", "show", "proto", "109").stdout
        name = f"after-{number.name.lower()}"
        kubectl.apply(service(name, app="web-1"))
        fresh = cluster_ip(kubectl, name)
        eventually(lambda: on_node(agent, fresh).startswith("web-1-"), "the new Service did not arrive on the agent's node")
    assert failures == []
    assert containers(agent.namespace) == before
    kubectl("delete", "pod", "--now", "--ignore-not-found", "late")
    kubectl.apply(pod("late", nodeName=agent.namespace))
    kubectl.wait("condition=Ready", "pod/late")
    kubectl("delete", "pod", "--now", "late")


def test_systemd_hears_that_an_agent_is_ready_when_its_node_is_part_of_the_cluster(
    cluster: Nodes, kubectl: Kubectl, agent: Agent, tmp_path: Path
) -> None:
    environment = dict(agent.environment)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        agent.environment = {**environment, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        try:
            agent.stop()
            kubectl("delete", "node", agent.node_name)
            agent.start()
            assert manager.recv(100) == b"READY=1"
            # no waiting: it is registered, and its endpoint has a certificate
            assert kubectl.field(".metadata.name", "node", agent.node_name) == agent.node_name
            assert kubectl("get", "--raw", f"/api/v1/nodes/{agent.node_name}/proxy/healthz") == "ok"
            agent.stop()
            assert manager.recv(100) == b"STOPPING=1"
            # it does not wait for a server that it can do without
            with without_server(cluster):
                agent.start()
                assert manager.recv(100) == b"READY=1"
                agent.stop()
        finally:
            agent.environment = environment
            if agent.process is None:
                agent.start()
    eventually(lambda: cluster.server.has_ready(agent.node_name), "the node is ready")


def test_a_pod_that_was_deleted_meanwhile_ends_after_the_return(cluster: Nodes, kubectl: Kubectl, agent: Agent) -> None:
    kubectl.apply(pod("meanwhile", nodeName=agent.namespace))
    kubectl.wait("condition=Ready", "pod/meanwhile")
    agent.stop()
    kubectl("delete", "pod", "meanwhile", "--wait=false")
    agent.start()
    kubectl.wait("delete", "pod/meanwhile")


def test_a_deleted_node_joins_again(cluster: Nodes, kubectl: Kubectl, agent: Agent) -> None:
    uid = kubectl.field(".metadata.uid", "node", agent.namespace)
    kubectl("delete", "node", agent.namespace)
    eventually(lambda: cluster.is_ready(agent.namespace), "it did not register again", 30)
    assert kubectl.field(".metadata.uid", "node", agent.namespace) != uid


def test_a_node_whose_address_changes_is_reached_at_the_new_one(cluster: Nodes, kubectl: Kubectl, agent: Agent) -> None:
    before, after = agent.ip, agent.ip.rpartition(".")[0] + ".77"
    process = agent.process

    def internal_ip() -> str:
        return kubectl.field('.status.addresses[?(@.type=="InternalIP")].address', "node", agent.namespace)

    def move(to: str, away: str) -> None:
        # a first address takes the other ones of its network with it, and the routes
        for action, address in (("del", away), ("add", to)):
            agent.on_node("ip", "addr", action, f"{address}/24", "dev", "eth0")
        agent.on_node("ip", "route", "replace", "default", "via", to.rpartition(".")[0] + ".1")

    move(after, before)
    try:
        eventually(lambda: internal_ip() == after, "the Node keeps its old address")
        eventually(lambda: cluster.is_ready(agent.namespace), "the node is not ready")
        eventually(lambda: kubectl.result("exec", "client-1", "--", "true").returncode == 0, "no stream to the new address", 30)
        ask = ("exec", "client-0", "--", "timeout", "2", "wget", "-qO-", "http://web-1")
        eventually(lambda: kubectl.result(*ask).stdout.startswith("web-1-"), "its pods are not reached")
        assert agent.process is process and process is not None and process.poll() is None
    finally:
        move(before, after)
    eventually(lambda: internal_ip() == before, "the Node does not go back")
    eventually(lambda: kubectl.result("exec", "client-1", "--", "true").returncode == 0, "no stream to the old address", 30)


# Joining


def stranger(cluster: Nodes, directory: Path, token: str, server: str = "") -> Agent:
    """Another agent on the agent's machine, that is not to start."""
    agent = cluster.agents[0]
    return Agent(directory, agent.namespace, agent.ip, server or cluster.server.url, token)


def test_without_a_good_token_nobody_joins(cluster: Nodes, tmp_path: Path) -> None:
    token = cluster.join_token()
    authority = token.partition("::")[0]
    for wrong, words in (
        ("", "this machine has not joined yet: give --token"),
        ("abcdef.0123456789abcdef", "--token must be a whole join token"),
        (f"{authority}::abcdef.0123456789abcdef", "the server does not know the token"),
        (f"K10{'0' * 64}::{token.partition('::')[2]}", "is not the one that the token names"),
    ):
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        directory.mkdir()
        assert words in stranger(cluster, directory, wrong).refuses()
        assert not (directory / "data" / "agent" / "pki").exists()


def test_two_machines_of_one_name_are_not_one_node(cluster: Nodes, tmp_path: Path) -> None:
    """As copies of a machine are, which all have its host name."""
    name = cluster.server.namespace
    copy = stranger(cluster, tmp_path, cluster.join_token())
    copy.flags = ("--node-name", name)
    said = copy.refuses()
    assert f"the cluster has a node {name} already, at {cluster.server.ip}, and it is ready" in said and "--node-name" in said
    assert not (tmp_path / "data" / "agent" / "pki").exists()


def test_the_secret_is_not_shown_to_a_server_that_is_not_the_clusters(cluster: Nodes, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "crt"
    impostor = issue.make_authority("impostor", datetime.datetime.now(datetime.UTC))
    key.write_bytes(impostor.key_pem)
    certificate.write_bytes(impostor.certificate_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    token = cluster.join_token()
    seen: list[bytes] = []
    gateway = cluster.server.ip.rpartition(".")[0] + ".1"
    with socket.create_server((gateway, 0)) as listener:
        listener.settimeout(20)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, context.wrap_socket(connection, server_side=True) as secured:
                    seen.append(secured.recv(65536))
                    body = certificate.read_bytes()
                    secured.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        serving = threading.Thread(target=serve, name="impostor", daemon=True)
        serving.start()
        url = f"https://{gateway}:{listener.getsockname()[1]}"
        assert "is not the one that the token names" in stranger(cluster, tmp_path, token, url).refuses()
        listener.shutdown(socket.SHUT_RDWR)
    serving.join(5)
    assert seen and all(b"GET /cacerts" in request for request in seen)
    secret = token.rpartition(".")[2].encode()
    assert not any(secret in request for request in seen)


def test_an_agent_waits_for_a_server_that_is_not_there_yet_and_can_be_ended_meanwhile(cluster: Nodes, tmp_path: Path) -> None:
    waiting = stranger(cluster, tmp_path, cluster.join_token(), f"https://{cluster.server.ip}:1")
    waiting.start()
    waiting.logs("the server does not answer, trying again")
    assert waiting.stop(timeout=5) == 0


def test_a_machine_of_one_cluster_does_not_join_another_by_mistake(agent: Agent) -> None:
    other = f"K10{'1' * 64}::abcdef.0123456789abcdef"
    again = Agent(agent.directory, agent.namespace, agent.ip, agent.server, other)
    assert "to join another cluster, remove" in again.refuses()
