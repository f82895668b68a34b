"""Faults that a server meets, as a process of its own: what it says, what it exits with, and that nothing is lost or overwritten."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.client
import itertools
import json
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509

from minikube_py.pki.issue import KeyPair, LeafSpec, Usage, issue, load_key
from tests.e2e.objects import config_map
from tests.support.lan import Lan
from tests.support.server import Server, running

pytestmark = pytest.mark.cluster

CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A control plane without a node, running."""
    with running(Server(tmp_path)) as made:
        yield made


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that tests share which do it no harm."""
    with running(Server(tmp_path_factory.mktemp("server"))) as made:
        yield made


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        said = Server(tmp_path, port=port).refuses()
    assert f"Error: port {port} is in use: stop what listens there, or choose another with --https-listen-port" in said
    with running(Server(tmp_path)) as again:
        assert again.get("/api/v1/namespaces/default")["metadata"]["name"] == "default"


def test_a_data_directory_in_use(server: Server) -> None:
    assert server.process is not None
    said = Server(server.directory).refuses()
    assert "is in use by another process" in said and "stop it" in said
    assert server.create(CONFIG_MAPS, config_map("a"))["metadata"]["name"] == "a"


def test_a_data_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file\n")
    said = Server(tmp_path).refuses()
    assert f"cannot use the data directory {tmp_path}/data" in said
    assert (tmp_path / "data").read_text() == "a file\n"


def test_containerd_missing(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for folder in ("/usr/bin", "/usr/sbin"):
        for program in Path(folder).iterdir():
            if "containerd" not in program.name and not (programs / program.name).exists():
                (programs / program.name).symlink_to(program)
    with Lan() as lan:
        namespace, ip = lan.attach("node")
        prefix = ("nsenter", f"--net=/run/netns/{namespace}")
        alone = Server(tmp_path, ip, flags=("--node-name", "n"), prefix=prefix, environment={"PATH": str(programs)})
        said = alone.refuses()
    assert "containerd is not installed: apt-get install containerd" in said and "--disable-agent" in said


def fingerprint(directory: Path) -> dict[str, str]:
    """Contents by name, but for the lock and the write-ahead log's index."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir() if p.name not in ("lock", "log.db-shm")}


@pytest.mark.parametrize(
    ("offset", "data", "advice"),
    [
        (60, (10_000).to_bytes(4, "big"), "run the newer program"),
        (4096, b"\xa5" * 4096 * 8, "restore a backup"),
        (0, b"\0" * 16, "restore a backup"),
    ],
    ids=["newer", "damaged", "no database"],
)  # fmt: skip
def test_a_database_that_cannot_be_opened_stays_as_it_is(tmp_path: Path, offset: int, data: bytes, advice: str) -> None:
    server = Server(tmp_path)
    with running(server):
        for number in range(50):
            server.create(CONFIG_MAPS, config_map(f"m{number}", text="x" * 2000))
    good = server.database.read_bytes()
    server.database.write_bytes(good[:offset] + data + good[offset + len(data) :])
    before = fingerprint(server.database.parent)
    for _ in range(2):
        said = server.refuses()
        assert advice in said and str(server.database.parent) in said, said
        assert len(said.strip().splitlines()) == 1, said
        assert fingerprint(server.database.parent) == before
    server.database.write_bytes(good)
    with running(server):
        assert len(server.get(CONFIG_MAPS)["items"]) >= 50


def test_kill_9_among_64_writers(server: Server) -> None:
    acknowledged: dict[str, str] = {}
    refused: list[Any] = []
    enough, connected = threading.Event(), threading.Barrier(64)

    def write(writer: int) -> None:
        connection = server.connection()
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.connect()
            connected.wait(60)
            for number in itertools.count():
                name = f"w{writer}-{number}"
                connection.request("POST", CONFIG_MAPS, json.dumps(config_map(name, text="x" * 500)), {"Content-Type": "application/json"})
                answer = connection.getresponse()
                body = json.loads(answer.read())
                if answer.status != 201:
                    refused.append(body)
                    return
                acknowledged[name] = body["metadata"]["resourceVersion"]
                if len(acknowledged) > 2000:
                    enough.set()

    writers = [threading.Thread(target=write, args=(writer,), name=f"writer {writer}") for writer in range(64)]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    server.stop(signal.SIGKILL)
    for writer in writers:
        writer.join(30)
    assert not refused, refused[0]
    server.start()
    server.ready()
    found = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in server.get(CONFIG_MAPS)["items"]}
    assert acknowledged.items() <= found.items()
    last = max(int(revision) for revision in found.values())
    assert int(server.create(CONFIG_MAPS, config_map("after"))["metadata"]["resourceVersion"]) > last


def test_a_watch_goes_on_after_a_restart(server: Server) -> None:
    first = server.create(CONFIG_MAPS, config_map("a"))["metadata"]["resourceVersion"]
    server.create(CONFIG_MAPS, config_map("b"))
    server.request("DELETE", f"{CONFIG_MAPS}/a")
    server.stop(signal.SIGKILL)
    server.start()
    server.ready()
    events = server.watch(f"{CONFIG_MAPS}?resourceVersion={first}", seconds=1)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [("ADDED", "b"), ("DELETED", "a")]


def test_sigterm_ends_it_with_status_0_and_nothing_is_lost(server: Server) -> None:
    server.create(CONFIG_MAPS, config_map("a"))
    assert server.stop() == 0
    server.start()
    server.ready()
    assert server.get(f"{CONFIG_MAPS}/a")["metadata"]["name"] == "a"


# Identities that are none


def certificate(server: Server, directory: Path, *, days_ago: float, authority: str = "client-ca") -> Path:
    """A client certificate of an administrator, signed by the server's authority some days ago, as PEM with its key."""
    tls = server.data / "server" / "tls"
    own = x509.load_pem_x509_certificate((tls / f"{authority}.crt").read_bytes())
    pair = KeyPair(load_key((tls / f"{authority}.key").read_bytes()), own)
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago)
    made = issue(pair, LeafSpec(Usage.CLIENT, "jane", ("system:masters",)), then)
    path = directory / "jane.pem"
    path.write_bytes(made.certificate_pem + made.key_pem)
    return path


def test_a_certificate_is_an_identity_until_it_expires(lasting: Server, tmp_path: Path) -> None:
    good = lasting.request("GET", CONFIG_MAPS, certificate=certificate(lasting, tmp_path, days_ago=0))
    assert good.status == 200
    expired = lasting.request("GET", CONFIG_MAPS, certificate=certificate(lasting, tmp_path, days_ago=400))
    assert (expired.status, expired.body["reason"]) == (401, "Unauthorized")
    foreign = lasting.request("GET", CONFIG_MAPS, certificate=certificate(lasting, tmp_path, days_ago=0, authority="request-header-ca"))
    assert foreign.status in (401, 403)


def test_tokens_that_are_unknown_or_expired(lasting: Server) -> None:
    assert lasting.request("GET", CONFIG_MAPS, token="nonsense").status == 401
    lasting.request("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "robot"}})
    path = "/api/v1/namespaces/default/serviceaccounts/robot/token"
    token = lasting.create(path, {"spec": {"expirationSeconds": 600}})["status"]["token"]
    assert lasting.request("GET", CONFIG_MAPS, token=token).status == 403
    claims = jwt.decode(token, options={"verify_signature": False})
    key = (lasting.data / "server" / "tls" / "service.key").read_text()
    header = {"kid": jwt.get_unverified_header(token)["kid"]}
    again = jwt.encode(claims, key, algorithm="ES256", headers=header)
    assert lasting.request("GET", CONFIG_MAPS, token=again).status == 403
    for name, claim in (("exp", claims["iat"] - 3600), ("nbf", claims["exp"] + 3600)):
        wrong = jwt.encode({**claims, name: claim}, key, algorithm="ES256", headers=header)
        assert lasting.request("GET", CONFIG_MAPS, token=wrong).status == 401


# Bodies that are none


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "application/json", 400),
        (b"[" * 10_000 + b"]" * 10_000, "application/json", 400),
        (b'{"metadata":', "application/json", 400),
        (b"a: [b", "application/yaml", 400),
        (b"k8s\0\xff\xff\xff", "application/vnd.kubernetes.protobuf", 400),
        (b'{"metadata":{"name":"x"},"data":{"a":"' + b"x" * (3 << 20) + b'"}}', "application/json", 413),
        (b'{"metadata":{"name":"x"},"data":"none"}', "application/json", 400),
        (b'{"apiVersion":"v1","kind":"Nonsense","metadata":{"name":"x"}}', "application/json", 400),
        (b"{}", "text/html", 415),
    ],
    ids=["deep objects", "deep lists", "cut", "yaml", "protobuf", "too large", "wrong type", "unknown kind", "unknown media type"],
)
def test_a_body_that_cannot_be_read(lasting: Server, body: bytes, content_type: str, status: int) -> None:
    answer = lasting.request("POST", CONFIG_MAPS, body, content_type=content_type)
    assert answer.status == status and answer.body["kind"] == "Status" and answer.body["code"] == status, answer
    assert lasting.request("GET", "/readyz").status == 200


def test_a_wrong_resource_version_is_a_conflict(lasting: Server) -> None:
    made = lasting.create(CONFIG_MAPS, config_map("fought-over"))
    path = f"{CONFIG_MAPS}/fought-over"
    assert lasting.request("PUT", path, {**made, "data": {"a": "1"}}).status == 200
    answer = lasting.request("PUT", path, {**made, "data": {"a": "2"}})
    assert (answer.status, answer.body["reason"]) == (409, "Conflict")
    assert lasting.get(path)["data"] == {"a": "1"}
