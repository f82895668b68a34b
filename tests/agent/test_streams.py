"""Streams to pods of both nodes: every protocol that clients speak, and clients that misbehave."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import websocket

from tests.e2e.objects import pod
from tests.support.agents import Nodes
from tests.support.command import Kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
PODS = ("here", "there")
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
# Says what it is sent, and for /big a hundred thousand lines.
SERVE = "mkdir -p /tmp/www; seq 100000 > /tmp/www/big; httpd -p 8080 -h /tmp/www; echo ready; exec nc -ll -p 9000 -e cat"


@pytest.fixture(scope="module")
def kubectl(cluster: Nodes) -> Kubectl:
    """kubectl in a namespace with a pod on the server's node and one on the agent's."""
    kubectl = cluster.server.kubectl().inside("streams")
    kubectl("create", "namespace", "streams")
    for name, node in zip(PODS, cluster.names, strict=True):
        kubectl.apply(pod(name, "sh", "-c", SERVE, nodeName=node))
    kubectl.wait("condition=Ready", *(f"pod/{name}" for name in PODS))
    return kubectl


@pytest.fixture(params=["websocket", "spdy"])
def either(kubectl: Kubectl, request: pytest.FixtureRequest) -> Kubectl:
    """kubectl that speaks WebSocket, or SPDY."""
    return kubectl.with_environment(**SPDY) if request.param == "spdy" else kubectl


_open: list[websocket.WebSocket] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Every WebSocket is closed with its test."""
    yield
    while _open:
        _open.pop().shutdown()


def connect(cluster: Nodes, path: str, *protocols: str, user: str = "") -> websocket.WebSocket:
    """A WebSocket to the API server as the administrator, or as a user that he impersonates."""
    made = websocket.WebSocket(sslopt={"context": cluster.server._context(cluster.server.directory / "admin.pem"), "check_hostname": True})
    header = [f"Impersonate-User: {user}"] if user else []
    made.connect(cluster.server.url.replace("https", "wss") + path, subprotocols=list(protocols), header=header, timeout=20)
    _open.append(made)
    return made


def exec_path(name: str, *command: str, **flags: bool) -> str:
    asked = "&".join([*(f"command={quote(word)}" for word in command), *(f"{flag}=true" for flag, on in flags.items() if on)])
    return f"/api/v1/namespaces/streams/pods/{name}/exec?{asked}"


def channels(connection: websocket.WebSocket) -> dict[int, bytes]:
    """All that comes until the other side ends it, by channel."""
    found: dict[int, bytes] = {}
    with contextlib.suppress(websocket.WebSocketConnectionClosedException):
        while message := connection.recv():
            assert isinstance(message, bytes)
            found[message[0]] = found.get(message[0], b"") + message[1:]
    return found


def resident(pid: int) -> int:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) * 1024


def refused(cluster: Nodes, path: str, *protocols: str, user: str = "") -> tuple[int, str]:
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        connect(cluster, path, *protocols, user=user)
    return caught.value.status_code, (caught.value.resp_body or b"").decode()


@pytest.mark.parametrize("name", PODS)
def test_commands_end_with_their_input_output_and_status(either: Kubectl, name: str, tmp_path: Path) -> None:
    done = either.result("exec", name, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n") and done.stderr.startswith("err\n")
    text = "".join(f"{number}\n" for number in range(700_000))
    assert either("exec", "-i", name, "--", "cat", stdin=text) == text
    done = either.result("exec", "-i", name, "--", "sh", "-c", "head -c 3; exit 4", stdin=text)
    assert (done.stdout, done.returncode) == ("0\n1", 4), done.stderr
    either("exec", "-i", name, "--", "sh", "-c", "exec cat > /tmp/taken", stdin=text)
    assert either("exec", name, "--", "sha256sum", "/tmp/taken").split()[0] == hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "sent").write_bytes(os.urandom(3_000_000))
    either("cp", str(tmp_path / "sent"), f"{name}:/tmp/sent")
    either("cp", f"{name}:/tmp/sent", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "sent").read_bytes()
    assert "no such file or directory" in either.fails("exec", name, "--", "/none")
    code, shown = either.on_terminal(
        [("# ", "stty size; tty\r"), ("/dev/pts", "exit 5\r")], "exec", "-it", name, "--", "sh", rows=31, columns=77
    )
    assert "31 77" in shown and code == 5, shown


@pytest.mark.parametrize("name", PODS)
def test_many_connections_are_forwarded_at_once(either: Kubectl, name: str) -> None:
    with either.running("port-forward", f"pod/{name}", ":9000") as forward:
        found = re.search(r"127\.0\.0\.1:(\d+) ->", forward.shows("Forwarding from 127.0.0.1"))
        assert found is not None
        address = ("127.0.0.1", int(found[1]))
        sent = [os.urandom(300_000) for _ in range(8)]
        with contextlib.ExitStack() as stack:
            connections = []
            for _ in sent:
                connections.append(stack.enter_context(socket.create_connection(address, timeout=20)))
                # nc keeps two connections waiting, and what comes beyond that the kernel resets: each is taken before the next one comes
                connections[-1].sendall(b"?")
                assert _exactly(connections[-1], 1) == b"?", forward.output
            for connection, data in zip(connections, sent, strict=True):
                for at in range(0, len(data), 50_000):
                    connection.sendall(data[at : at + 50_000])
                    assert _exactly(connection, 50_000) == data[at : at + 50_000], forward.output


def test_a_reset_of_one_connection_is_nobody_elses_affair(cluster: Nodes, either: Kubectl) -> None:
    with either.running("port-forward", "pod/there", ":9000") as other:
        found = re.search(r"127\.0\.0\.1:(\d+) ->", other.shows("Forwarding from 127.0.0.1"))
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=20) as kept:
            # kubectl may end the whole forward over a connection that was reset: so the resets have one of their own
            with either.running("port-forward", "pod/there", ":9000") as forward:
                found = re.search(r"127\.0\.0\.1:(\d+) ->", forward.shows("Forwarding from 127.0.0.1"))
                assert found is not None
                with contextlib.suppress(OSError):
                    for _ in range(5):
                        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=20) as broken:
                            broken.sendall(b"x" * 100_000)
                            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            kept.sendall(b"still here")
            assert _exactly(kept, 10) == b"still here"


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length and (more := connection.recv(length - len(data))):
        data += more
    return data


@pytest.mark.parametrize("name", PODS)
def test_raw_websockets(cluster: Nodes, kubectl: Kubectl, name: str) -> None:
    script = exec_path(name, "sh", "-c", "echo out; echo err >&2; exit 3", stdout=True, stderr=True)
    for protocol in (V5, V4):
        connection = connect(cluster, script, protocol, "channel.k8s.io")
        assert connection.subprotocol == protocol
        found = channels(connection)
        assert (found[1], found[2]) == (b"out\n", b"err\n")
        status = json.loads(found[3])
        assert (status["reason"], status["details"]["causes"][0]) == ("NonZeroExitCode", {"reason": "ExitCode", "message": "3"})
    # v5 alone says that the input has ended
    connection = connect(cluster, exec_path(name, "sha256sum", stdin=True, stdout=True), V5)
    data = os.urandom(200_000)
    connection.send_binary(b"\0" + data)
    connection.send_binary(b"\xff\0")
    found = channels(connection)
    assert found[1].split()[0].decode() == hashlib.sha256(data).hexdigest() and json.loads(found[3])["status"] == "Success"
    # a terminal takes its new size while it is in use
    connection = connect(cluster, exec_path(name, "sh", stdin=True, stdout=True, tty=True), V5)
    connection.send_binary(b'\x04{"Width":91,"Height":17}')
    deadline, shown = time.monotonic() + 20, b""
    while b"17 91" not in shown:
        assert time.monotonic() < deadline, shown
        connection.send_binary(b"\0stty size\n")
        shown += connection.recv()[1:]  # type: ignore[operator]
    connection.send_binary(b"\0exit 0\n")
    assert json.loads(channels(connection)[3])["status"] == "Success"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_that_ends_ends_the_streams_and_not_the_pods(cluster: Nodes, either: Kubectl, number: signal.Signals) -> None:
    agent, path = cluster.agents[0], "/tmp/ended"
    script = f"rm -f {path}; cat; echo on; while ! test -f /tmp/go; do sleep 0.1; done; rm /tmp/go; touch {path}"
    with either.running("exec", "-i", "there", "--", "sh", "-c", script) as command:
        assert command.process.stdin is not None
        command.process.stdin.write(b"hello\n")
        command.process.stdin.flush()
        command.shows("hello\n")
        agent.stop(number)
        try:
            code = command.ends(timeout=10)
            # a client of SPDY takes a connection that is lost for an end like any other
            assert code != 0 or (either.environment and number == signal.SIGKILL), command.output
        finally:
            agent.start()
    cluster.ready()
    # the next agent ends the input of what the one before has left, and the command goes on from there
    deadline = time.monotonic() + 30
    while (done := either.result("exec", "there", "--", "touch", "/tmp/go")).returncode != 0:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.2)
    while either.result("exec", "there", "--", "test", "-f", path).returncode != 0:
        assert time.monotonic() < deadline, either("exec", "there", "--", "ps")
        time.sleep(0.2)
    assert either.field(".status.containerStatuses[0].restartCount", "pod/there") == "0"


def test_logs_over_a_websocket(cluster: Nodes, kubectl: Kubectl) -> None:
    for name in PODS:
        path = f"/api/v1/namespaces/streams/pods/{name}/log"
        connection = connect(cluster, path, "binary.k8s.io")
        assert [connection.recv(), connection.recv()] == [b"", b"ready\n"]
        connection = connect(cluster, path + "?follow=true", "base64.binary.k8s.io")
        assert (connection.recv(), base64.b64decode(connection.recv())) == ("", b"ready\n")
        connection.close()
    status, text = refused(cluster, path, "other.k8s.io")
    assert status == 403, text
    assert refused(cluster, "/api/v1/namespaces/streams/pods/none/log", "binary.k8s.io")[0] == 404


def test_errors_are_upstreams(cluster: Nodes, kubectl: Kubectl) -> None:
    assert refused(cluster, exec_path("here", "true", stdout=True), "v9.channel.k8s.io")[0] == 403
    assert refused(cluster, exec_path("none", "true", stdout=True), V5)[0] == 404
    kubectl.apply(pod("over", "true", restartPolicy="Never"))
    kubectl.until("Succeeded", ".status.phase", "pod/over")
    assert refused(cluster, exec_path("over", "true", stdout=True), V5) == (500, 'container not found ("main")')
    done = kubectl.fails("--v=0", "port-forward", "pod/over", ":80")
    assert "pod is not running" in done
    answer = cluster.server.request("POST", exec_path("here", "true", stdout=True))
    assert (answer.status, answer.body["message"]) == (400, "Upgrade request required")


def test_reading_does_not_include_running_commands(cluster: Nodes, kubectl: Kubectl) -> None:
    path = exec_path("here", "true", stdout=True)
    kubectl("create", "role", "watcher", "--verb=get", "--resource=pods,pods/exec,pods/log,pods/portforward")
    kubectl("create", "rolebinding", "watcher", "--role=watcher", "--user=eve")
    status, text = refused(cluster, path, V5, user="eve")
    assert status == 403 and json.loads(text)["message"].startswith('pods "here" is forbidden') and "create" in text
    assert refused(cluster, path.replace("/exec", "/portforward"), "SPDY/3.1+portforward.k8s.io", user="eve")[0] == 403
    assert connect(cluster, "/api/v1/namespaces/streams/pods/here/log", "binary.k8s.io", user="eve").recv() == b""
    kubectl("create", "role", "runner", "--verb=create", "--resource=pods/exec")
    kubectl("create", "rolebinding", "runner", "--role=runner", "--user=eve")
    assert json.loads(channels(connect(cluster, path, V5, user="eve"))[3])["status"] == "Success"


@contextlib.contextmanager
def proxied(kubectl: Kubectl, *arguments: str) -> Iterator[str]:
    with kubectl.running("proxy", "--reject-paths=^$", *arguments) as proxy:
        yield proxy.shows("Starting to serve on").split()[-1]


def test_streams_pass_a_second_proxy(either: Kubectl, tmp_path: Path) -> None:
    with proxied(either, "--port=0") as address:
        through = ("--server", f"http://{address}")
        for name in PODS:
            assert either(*through, "exec", "-i", name, "--", "cat", stdin="through\n") == "through\n"
            assert either(*through, "exec", "-i", name, "--", "head", "-c", "7", stdin="through\n" * 500_000) == "through"
        with either.running(*through, "port-forward", "pod/there", ":8080") as forward:
            found = re.search(r"127\.0\.0\.1:(\d+) ->", forward.shows("Forwarding from 127.0.0.1"))
            assert found is not None
            with socket.create_connection(("127.0.0.1", int(found[1])), timeout=20) as connection:
                connection.sendall(b"GET /big HTTP/1.0\r\n\r\n")
                assert _exactly(connection, 1 << 20).endswith(b"\n100000\n")
    with proxied(either, f"--unix-socket={tmp_path}/socket") as address, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert b'"gitVersion"' in _exactly(connection, 1 << 20)


def test_a_client_that_stops_reading_holds_nothing(cluster: Nodes, kubectl: Kubectl) -> None:
    server = cluster.server.process
    assert server is not None
    for name in PODS:
        before = resident(server.pid)
        connection = connect(cluster, exec_path(name, "cat", "/dev/zero", stdout=True), V5)
        connection.recv()
        time.sleep(2)
        assert resident(server.pid) - before < 16 << 20
        assert kubectl("exec", name, "--", "echo", "meanwhile") == "meanwhile\n"
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown()
        # nor does a command that does not take its input
        connection = connect(cluster, exec_path(name, "sleep", "3", stdin=True, stdout=True), V5)
        connection.settimeout(1)
        before, sent, piece = resident(server.pid), 0, b"\0" + bytes(64 * 1024)
        with pytest.raises(websocket.WebSocketTimeoutException):
            while sent < 64 << 20:
                sent += connection.send_binary(piece)
        assert resident(server.pid) - before < 16 << 20
        connection.settimeout(20)
        assert json.loads(channels(connection)[3])["status"] == "Success"
    for kind in ("follow", "websocket"):  # a log's reader as well
        context: ssl.SSLContext = cluster.server._context(cluster.server.directory / "admin.pem")
        kubectl.apply(pod("loud", "sh", "-c", "yes | head -c 20000000; sleep 1000", nodeName=cluster.names[1]))
        kubectl.wait("condition=Ready", "pod/loud")
        path = "/api/v1/namespaces/streams/pods/loud/log?follow=true"
        before = resident(server.pid)
        if kind == "websocket":
            connection = connect(cluster, path, "binary.k8s.io")
            time.sleep(1)
            connection.shutdown()
        else:
            with (
                socket.create_connection((cluster.server.ip, cluster.server.port)) as raw,
                context.wrap_socket(raw, server_hostname=cluster.server.ip) as tls,
            ):
                tls.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                time.sleep(1)
        assert resident(server.pid) - before < 16 << 20
