"""The nodes of a test cluster: what runs in a network namespace of its own with its own containerd and pods."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from minikube_py.cri.containerd import Containerd, ContainerdOptions
from tests.support import cgroups
from tests.support.netns import enter
from tests.support.program import Program
from tests.support.server import Server

_EVICTION = ("--eviction-hard", "memory.available<100Mi")  # how full this machine's disk is shall not end the tests' pods


class Node:
    """A node, which is named like its network namespace."""

    namespace: str
    data: Path

    @property
    def node_name(self) -> str:
        """The name of the node."""
        return self.namespace

    @property
    def cgroup(self) -> str:
        """The cgroup of all its pods."""
        return f"/{self.namespace}"

    @property
    def images(self) -> Path:
        """Where archives lie that the node imports at its start."""
        return self.data / "agent" / "images"

    def containerd(self) -> Containerd:
        """The node's containerd, as the program makes it."""
        return containerd(self.data, self.namespace)

    def on_node(self, *command: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Run a command in the node's network."""
        return subprocess.run([*enter(self.namespace), *command], capture_output=True, text=True, timeout=timeout, check=False)

    def pod_processes(self, uids: Iterable[str]) -> dict[int, str]:
        """Every process of these pods, with its start time: the same pair is the same process."""
        found = {}
        wanted = {f"pod{uid}" for uid in uids}
        for procs in cgroups.directory(self.cgroup).rglob("cgroup.procs"):
            if not wanted & set(procs.parts):
                continue
            for pid in procs.read_text().split():
                with contextlib.suppress(OSError):
                    found[int(pid)] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return found


@dataclass
class Cluster(Node, Server):
    """A server and its own node."""

    namespace: str = ""

    def command(self) -> list[str]:
        """Its command line."""
        return [*super().command(), "--node-name", self.namespace, "--cgroup-root", self.cgroup, *_EVICTION]

    def is_ready(self) -> bool:
        """Whether the server and its node are ready."""
        return super().is_ready() and self.has_ready(self.node_name)

    def has_ready(self, node: str) -> bool:
        """Whether a node is Ready now."""
        answer = self.request("GET", f"/api/v1/nodes/{node}")
        conditions = answer.body.get("status", {}).get("conditions", ()) if answer.status == 200 else ()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def join_token(self, *arguments: str) -> str:
        """A new token, as the command line makes it."""
        command = [sys.executable, "-m", "minikube_py", "token", "create", "--data-dir", str(self.data), *arguments]
        # the server's own kubeconfig names 127.0.0.1, which is another one in its network namespace
        done = self.on_node(*command, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@dataclass
class Agent(Node, Program):
    """One agent."""

    namespace: str
    ip: str
    server: str
    token: str = ""
    flags: tuple[str, ...] = ()
    role: ClassVar[str] = "agent"

    def command(self) -> list[str]:
        """Its command line."""
        command = [*enter(self.namespace), sys.executable, "-m", "minikube_py", "agent", "--server", self.server]
        command += ["--data-dir", str(self.data), "--node-name", self.namespace, "--cgroup-root", self.cgroup]
        return [*command, *_EVICTION, *(("--token", self.token) if self.token else ()), *self.flags]


def containerd(data: Path, namespace: str) -> Containerd:
    """The containerd of a data directory; one that has to be started is in the node's network, if there still is one."""
    there = Path("/run/netns", namespace).exists()
    return Containerd(ContainerdOptions(data_dir=data / "agent", enter=enter(namespace) if there else ()))
