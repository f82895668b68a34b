"""`minikube-py server` as a process of its own, as users run it, and requests to it over real HTTPS."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import yaml

from tests.support.command import Kubectl
from tests.support.kubectl import CURRENT, kubectl
from tests.support.program import Program


class Answer(NamedTuple):
    """What a request got; `body` is parsed where it is JSON."""

    status: int
    body: Any


@dataclass
class Server(Program):
    """One server: how it is started, and how it is reached from here."""

    ip: str = "127.0.0.1"
    port: int = 0
    flags: tuple[str, ...] = ("--disable-agent", "--bind-address", "127.0.0.1")
    prefix: tuple[str, ...] = ()  # what the server is started by, such as nsenter
    role: ClassVar[str] = "server"
    _seen: str = ""
    _authority: str = ""
    _contexts: dict[bytes, ssl.SSLContext] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = self.port or free_port()

    @property
    def database(self) -> Path:
        """Its log."""
        return self.data / "server" / "db" / "log.db"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, with the address that this side sees."""
        return self.directory / "kubeconfig"

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"https://{self.ip}:{self.port}"

    def kubectl(self, suite: str = CURRENT) -> Kubectl:
        """A release's kubectl as the administrator."""
        return Kubectl(kubectl(suite), self.kubeconfig)

    def command(self) -> list[str]:
        """The command line of the server."""
        command = [*self.prefix, sys.executable, "-m", "minikube_py", "server", "--https-listen-port", str(self.port)]
        return [*command, "--data-dir", str(self.data), "--write-kubeconfig", str(self.directory / "kubeconfig.local"), *self.flags]

    def ready(self, timeout: float = 60) -> None:
        """Until /readyz says so."""
        deadline = time.monotonic() + timeout
        while not self.is_ready():
            self.must_run()
            assert time.monotonic() < deadline, self.waits()
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Whether it is ready now."""
        local = self.directory / "kubeconfig.local"
        if not local.exists():
            return False
        if local.read_text() != self._seen:
            self._take(local.read_text())
        with contextlib.suppress(OSError):
            return self.request("GET", "/readyz").status == 200
        return False

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        token: str | None = None,
        certificate: Path | None = None,
    ) -> Answer:
        """One request, as the administrator unless a token or the PEM file of a certificate with its key is given. Raises OSError."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": content_type} | ({"Authorization": f"Bearer {token}"} if token is not None else {})
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        if certificate is None and token is None:
            certificate = self.directory / "admin.pem"
        try:
            with urllib.request.urlopen(request, context=self._context(certificate), timeout=30) as answer:
                return Answer(answer.status, _parsed(answer.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _parsed(error.read()))

    def get(self, path: str) -> Any:
        """A GET that must work."""
        answer = self.request("GET", path)
        assert answer.status == 200, answer
        return answer.body

    def create(self, path: str, body: Mapping[str, Any]) -> Any:
        """A POST that must work."""
        answer = self.request("POST", path, body)
        assert answer.status == 201, answer
        return answer.body

    def watch(self, path: str, *, seconds: int) -> list[Any]:
        """The events of a watch that is open for some seconds; `path` has a query."""
        address = f"{self.url}{path}&watch=1&timeoutSeconds={seconds}"
        with urllib.request.urlopen(address, context=self._context(self.directory / "admin.pem"), timeout=seconds + 30) as answer:
            return [json.loads(line) for line in answer]

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        for line in self.get("/metrics").splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"there is no metric {name}")

    def connection(self) -> http.client.HTTPSConnection:
        """A connection as the administrator, for many requests."""
        return http.client.HTTPSConnection(self.ip, self.port, context=self._context(self.directory / "admin.pem"), timeout=60)

    def _take(self, text: str) -> None:
        """Take a kubeconfig that the server has written: address, authority, and the administrator's certificate."""
        config = yaml.safe_load(text)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        cluster["server"] = self.url
        self.kubeconfig.write_text(yaml.safe_dump(config))
        pair = base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"])
        (self.directory / "admin.pem").write_bytes(pair)
        self._authority, self._contexts, self._seen = base64.b64decode(cluster["certificate-authority-data"]).decode(), {}, text

    def _context(self, certificate: Path | None) -> ssl.SSLContext:
        shown = certificate.read_bytes() if certificate is not None else b""
        context = self._contexts.get(shown)
        if context is None:
            context = self._contexts[shown] = ssl.create_default_context(cadata=self._authority)
            if certificate is not None:
                context.load_cert_chain(certificate)
        return context


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server that runs, and is ended with the block."""
    server.start()
    try:
        server.ready()
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
