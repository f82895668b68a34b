"""Real nodes for tests: a network namespace on a Lan with a containerd of its own, torn down to the last cgroup.

`runtime_node` shares this process's file system view, so that code under test can run in this process beside its containerd; the node
differs from the machine only in its network and its cgroup.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from minikube_py.cri.client import CriClient
from minikube_py.cri.containerd import Containerd, ContainerdOptions
from minikube_py.cri.images import import_archive
from minikube_py.cri.teardown import stop_all
from minikube_py.network import links
from minikube_py.network.cni import FILE_NAME, conflist
from tests.support.images import write_archives
from tests.support.lan import Lan
from tests.support.netns import entered


@dataclass
class RuntimeNode:
    """A node whose containerd runs; images.BUSYBOX and images.WEB are imported."""

    name: str
    ip: str
    namespace: str
    directory: Path
    pod_cidr: str
    cgroup: str  # parent for the pods' cgroups: "/mkpy1-node"
    containerd: Containerd

    @property
    def socket(self) -> Path:
        """containerd's socket."""
        return self.containerd.socket

    def client(self) -> CriClient:
        """A new CRI client; the caller closes it."""
        return CriClient(self.socket)

    def run(self, *command: str, timeout: float = 20.0) -> str:
        """A command's output, run in the node's network."""
        whole = ["nsenter", f"--net=/run/netns/{self.namespace}", *command]
        return subprocess.run(whole, check=True, capture_output=True, text=True, timeout=timeout).stdout


@contextlib.asynccontextmanager
async def runtime_node(name: str = "node", *, images: bool = True) -> AsyncIterator[RuntimeNode]:
    """One node on a Lan of its own."""
    lan = await asyncio.to_thread(Lan().__enter__)
    try:
        namespace, ip = await asyncio.to_thread(lan.attach, name)
        # containerd's sockets are below it, and a socket's name must be short
        directory = Path(tempfile.mkdtemp(prefix=f"{lan.name}-", dir="/tmp"))
        options = ContainerdOptions(
            data_dir=directory / "agent",
            run_dir=Path("/run") / namespace,
            iptables="legacy",
            enter=("nsenter", f"--net=/run/netns/{namespace}"),
            path=os.environ.get("MINIKUBE_PY_TEST_RUNTIME_PATH"),  # where another containerd than the machine's is
        )
        node = RuntimeNode(name, ip, namespace, directory, f"10.214.{lan.number}.0/24", f"/{namespace}", Containerd(options))
        try:
            await asyncio.to_thread(_prepare, node)
            await asyncio.to_thread(lan.route, node.pod_cidr, ip)
            await node.containerd.start()
            if images:
                async with node.client() as client:
                    for archive in await asyncio.to_thread(write_archives, directory / "images"):
                        await import_archive(client, archive)
            yield node
        finally:
            await stop_all(node.containerd, cgroup=node.cgroup, directories=(directory,))
            await asyncio.to_thread(shutil.rmtree, directory)
    finally:
        await asyncio.to_thread(lan.__exit__, None, None, None)


def _prepare(node: RuntimeNode) -> None:
    layout = node.containerd.layout
    with entered(node.namespace):
        problems = links.set_sysctls(ipv6=False)
        assert not problems, problems
        links.reject_range("10.214.0.0/16")
    layout.cni_conf.mkdir(parents=True)
    (layout.cni_conf / FILE_NAME).write_text(conflist((node.pod_cidr,), node.directory / "ipam", "cni0", 0))
