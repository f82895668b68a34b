"""A cluster of one node: `minikube-py server` in a network namespace with a containerd of its own, and its pods."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minikube_py.cri.containerd import Containerd, ContainerdOptions
from minikube_py.cri.teardown import stop_all
from tests.support.images import write_archives
from tests.support.lan import Lan
from tests.support.server import Server

POD_CIDR = "10.42.0.0/16"


@dataclass
class Cluster(Server):
    """A cluster whose node is named like its network namespace."""

    namespace: str = ""

    @property
    def node_name(self) -> str:
        """The name of the node."""
        return self.namespace

    @property
    def cgroup(self) -> str:
        """The cgroup of all pods."""
        return f"/{self.namespace}"

    def containerd(self) -> Containerd:
        """The node's containerd, as the server makes it."""
        return Containerd(ContainerdOptions(data_dir=self.data / "agent"))

    def is_ready(self) -> bool:
        """Whether the node is Ready."""
        if not super().is_ready():
            return False
        answer = self.request("GET", f"/api/v1/nodes/{self.node_name}")
        return answer.status == 200 and any(
            c["type"] == "Ready" and c["status"] == "True" for c in answer.body.get("status", {}).get("conditions", ())
        )

    def on_node(self, *command: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Run a command in the node's network."""
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.namespace}", *command], capture_output=True, text=True, timeout=timeout, check=False
        )

    def pod_processes(self, uids: Iterable[str]) -> dict[int, str]:
        """Every process of these pods, with its start time: the same pair is the same process."""
        found = {}
        wanted = {f"pod{uid}" for uid in uids}
        for procs in Path("/sys/fs/cgroup/memory" + self.cgroup).rglob("cgroup.procs"):
            if not wanted & set(procs.parts):
                continue
            for pid in procs.read_text().split():
                with contextlib.suppress(OSError):
                    found[int(pid)] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return found


@contextlib.contextmanager
def cluster(flags: Sequence[str] = (), archives: Callable[[Path], object] = write_archives) -> Iterator[Cluster]:
    """A cluster of one node, Ready; torn down to the last cgroup. `archives` writes the images that the node imports at its start."""
    with Lan() as lan:
        namespace, ip = lan.attach("node")
        directory = Path(tempfile.mkdtemp(prefix=f"{lan.name}-", dir="/tmp"))
        prefix = ("nsenter", f"--net=/run/netns/{namespace}")
        own = ("--node-name", namespace, "--cgroup-root", f"/{namespace}")
        made = Cluster(directory, ip, 6443, (*own, *flags), prefix, namespace=namespace)
        try:
            archives(made.data / "agent" / "images")
            made.start()
            made.ready()
            lan.route(POD_CIDR, ip)
            yield made
        finally:
            try:
                made.stop()
            finally:
                asyncio.run(stop_all(made.containerd(), cgroup=made.cgroup, directories=(directory,)))
                shutil.rmtree(directory)
