"""Further nodes of a cluster: `minikube-py agent` in network namespaces of their own, each with its containerd and its pods."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minikube_py.cri.containerd import Containerd, ContainerdOptions
from minikube_py.cri.teardown import stop_all
from tests.support import registry
from tests.support.cluster import POD_CIDR, Cluster
from tests.support.images import write_archives
from tests.support.lan import Lan

ROOT = Path(__file__).parents[2]


@dataclass
class Agent:
    """One agent, whose node is named like its network namespace."""

    namespace: str
    ip: str
    directory: Path
    server: str
    token: str = ""
    flags: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.directory / "data"

    @property
    def cgroup(self) -> str:
        """The cgroup of all its pods."""
        return f"/{self.namespace}"

    def command(self) -> list[str]:
        """Its command line."""
        command = ["nsenter", f"--net=/run/netns/{self.namespace}", sys.executable, "-m", "minikube_py", "agent"]
        command += ["--server", self.server, "--data-dir", str(self.data), "--node-name", self.namespace, "--cgroup-root", self.cgroup]
        return [*command, *(("--token", self.token) if self.token else ()), *self.flags]

    def start(self) -> None:
        """Start it; returns at once."""
        with (self.directory / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=ROOT)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 20) -> int:
        """End it, not its pods; its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(number)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
            raise AssertionError(f"the agent did not end within {timeout} s: {self.log()[-3000:]}") from None

    def refuses(self, timeout: float = 20) -> str:
        """Start it, and it must end by itself with status 1; what it has printed."""
        done = subprocess.run(self.command(), capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False)
        assert done.returncode == 1, f"status {done.returncode}: {done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr + done.stdout

    def log(self) -> str:
        """What it has logged."""
        return (self.directory / "agent.log").read_text(errors="replace")

    def logs(self, text: str, since: int = 0, timeout: float = 20) -> None:
        """Wait until it has logged a text, after the first `since` characters."""
        deadline = time.monotonic() + timeout
        while text not in self.log()[since:]:
            assert self.process is None or self.process.poll() is None, self.log()[-3000:]
            assert time.monotonic() < deadline, f"{text!r} was not logged: {self.log()[-3000:]}"
            time.sleep(0.05)

    def on_node(self, *command: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Run a command in the node's network."""
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.namespace}", *command], capture_output=True, text=True, timeout=timeout, check=False
        )

    def containerd(self) -> Containerd:
        """The node's containerd, as the agent makes it."""
        return Containerd(ContainerdOptions(data_dir=self.data / "agent"))


@dataclass
class Nodes:
    """A cluster of several nodes: the server's own, and agents."""

    server: Cluster
    agents: list[Agent] = field(default_factory=list)
    registry: str = ""  # the URL of the registry that all nodes ask, where there is one

    @property
    def names(self) -> list[str]:
        """The nodes' names, the server's first."""
        return [self.server.node_name, *(agent.namespace for agent in self.agents)]

    def join_token(self, *arguments: str) -> str:
        """A new token, as the command line makes it."""
        command = [sys.executable, "-m", "minikube_py", "token", "create", "--data-dir", str(self.server.data), *arguments]
        # the server's own kubeconfig names 127.0.0.1, which is another one in its network namespace
        command = ["nsenter", f"--net=/run/netns/{self.server.namespace}", *command]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def is_ready(self, name: str) -> bool:
        """Whether a node is Ready now."""
        answer = self.server.request("GET", f"/api/v1/nodes/{name}")
        conditions = answer.body.get("status", {}).get("conditions", ()) if answer.status == 200 else ()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def ready(self, timeout: float = 40) -> None:
        """Until every node is Ready."""
        deadline = time.monotonic() + timeout
        for name in self.names:
            while not self.is_ready(name):
                agent = next((a for a in self.agents if a.namespace == name), None)
                log = agent.log()[-4000:] if agent is not None else self.server.log()[-4000:]
                assert agent is None or agent.process is None or agent.process.poll() is None, log
                assert time.monotonic() < deadline, f"{name} is not ready: {log}"
                time.sleep(0.05)


@contextlib.contextmanager
def nodes(
    count: int = 2, flags: Sequence[str] = (), archives: Callable[[Path], object] = write_archives, *, with_registry: bool = False
) -> Iterator[Nodes]:
    """A cluster of so many nodes, all Ready; torn down to the last cgroup.

    `archives` writes the images that the nodes import at their start; `with_registry`, a registry serves them too, by any name."""
    with Lan() as lan, contextlib.ExitStack() as stack:
        namespace, ip = lan.attach("node")
        directory = Path(tempfile.mkdtemp(prefix=f"{lan.name}-", dir="/tmp"))
        prefix = ("nsenter", f"--net=/run/netns/{namespace}")
        own = ("--node-name", namespace, "--cgroup-root", f"/{namespace}")
        server = Cluster(directory, ip, 6443, (*own, *flags), prefix, namespace=namespace)
        made = Nodes(server)
        stack.callback(_remove, server, directory)
        archives(server.data / "agent" / "images")
        if with_registry:
            images = sorted((server.data / "agent" / "images").iterdir())
            storage = Path(tempfile.mkdtemp(prefix=f"{lan.name}-registry-"))
            made.registry = stack.enter_context(registry.registry(lan, images, storage))
            registry.use(made.registry, server.containerd().layout.registries)
        server.start()
        server.ready()
        lan.route(POD_CIDR, ip)
        for number in range(1, count):
            made.agents.append(stack.enter_context(agent(lan, made, f"node{number}")))
        made.ready()
        yield made


@contextlib.contextmanager
def agent(lan: Lan, cluster: Nodes, name: str) -> Iterator[Agent]:
    """An agent that was started, on a machine of its own."""
    namespace, ip = lan.attach(name)
    directory = Path(tempfile.mkdtemp(prefix=f"{namespace}-", dir="/tmp"))
    made = Agent(namespace, ip, directory, cluster.server.url, cluster.join_token())
    try:
        images = made.data / "agent" / "images"
        images.mkdir(parents=True)
        for archive in (cluster.server.data / "agent" / "images").iterdir():
            os.link(archive, images / archive.name)
        if cluster.registry:
            registry.use(cluster.registry, made.containerd().layout.registries)
        made.start()
        yield made
    finally:
        _remove(made, directory)


def _remove(node: Cluster | Agent, directory: Path) -> None:
    try:
        node.stop()
    finally:
        asyncio.run(stop_all(node.containerd(), cgroup=node.cgroup, directories=(directory,)))
        shutil.rmtree(directory)
