"""Test clusters: a server with its node, and agents, each in a network namespace on one Lan with a containerd and pods of its own.

A cluster is a directory. Everything that there is of it follows from that: a directory for each node with its data, its log and the number
of its process, and the Lan, whose owner it is. So `take_down` needs the directory alone and works for whoever calls it, wherever `bring_up`
or the cluster's maker ended. A test session's cluster names the session in its `owner` link; when that is gone the next session takes the
cluster down. scripts/cluster makes ones without an owner, which stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from minikube_py.cri.teardown import stop_all
from tests.support import lan as lans
from tests.support.images import write_archives
from tests.support.lan import Lan
from tests.support.members import Agent, Cluster, containerd
from tests.support.netns import enter
from tests.support.program import find
from tests.support.registry import Registry, use

__all__ = ["POD_CIDR", "Agent", "Cluster", "ClusterSpec", "Nodes", "bring_up", "cluster", "nodes", "take_down"]

POD_CIDR = "10.42.0.0/16"
_SCRATCH = Path("/tmp")
_PREFIX = "mkpy-"  # short: a mount below it must fit into a socket's name
_OWNER = "owner"
_END_SECONDS = 20


@dataclass(frozen=True)
class ClusterSpec:
    """What a cluster is made of."""

    nodes: int = 1
    flags: Sequence[str] = ()
    """Further flags of the server."""
    agent_flags: Sequence[str] = ()
    """Further flags of every agent."""
    archives: Callable[[Path], object] = write_archives
    """Writes the images that every node imports at its start."""
    with_registry: bool = False
    """Whether a registry serves these images too, by any name."""
    reached: bool = True
    """Whether this machine gets a route to the pods, which only one cluster at a time can have."""


@dataclass
class Nodes:
    """A cluster that runs: the server with its own node, and agents."""

    server: Cluster
    lan: Lan
    agents: list[Agent] = field(default_factory=list)
    registry: Registry | None = None

    @property
    def members(self) -> Sequence[Cluster | Agent]:
        """The nodes, the server's first."""
        return (self.server, *self.agents)

    @property
    def names(self) -> list[str]:
        """The nodes' names, the server's first."""
        return [member.node_name for member in self.members]

    def join_token(self, *arguments: str) -> str:
        """A new token, as the command line makes it."""
        return self.server.join_token(*arguments)

    def is_ready(self, name: str) -> bool:
        """Whether a node is Ready now."""
        return self.server.has_ready(name)

    def ready(self, timeout: float = 40) -> None:
        """Until every node is Ready."""
        deadline = time.monotonic() + timeout
        for node in self.members:
            while not self.is_ready(node.node_name):
                node.must_run()
                assert time.monotonic() < deadline, f"{node.node_name} is not ready: {node.waits()}"
                time.sleep(0.05)


@contextlib.contextmanager
def cluster(flags: Sequence[str] = (), archives: Callable[[Path], object] = write_archives) -> Iterator[Cluster]:
    """A cluster of one node, Ready; torn down to the last cgroup. `archives` writes the images that the node imports at its start."""
    with nodes(1, flags, archives) as made:
        yield made.server


@contextlib.contextmanager
def nodes(
    count: int = 2,
    flags: Sequence[str] = (),
    archives: Callable[[Path], object] = write_archives,
    *,
    agent_flags: Sequence[str] = (),
    with_registry: bool = False,
) -> Iterator[Nodes]:
    """A cluster of so many nodes, all Ready; torn down to the last cgroup. What is asked for is ClusterSpec's."""
    _take_down_abandoned()
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_SCRATCH))
    (directory / _OWNER).symlink_to(f"/proc/{os.getpid()}")
    try:
        made = bring_up(directory, ClusterSpec(count, flags, agent_flags, archives, with_registry))
        try:
            yield made
        finally:
            for node in reversed(made.members):
                node.stop()
            if made.registry is not None:
                made.registry.stop()
    finally:
        take_down(directory)


def bring_up(directory: Path, spec: ClusterSpec) -> Nodes:
    """A new cluster in an empty directory, every node Ready. What there is of one that does not come up, `take_down` removes."""
    lan = Lan(directory)
    lan.create()
    namespace, ip = lan.attach("node")
    server = Cluster(_place(directory, namespace), ip, 6443, tuple(spec.flags), enter(namespace), namespace=namespace)
    made = Nodes(server, lan)
    spec.archives(server.images)
    if spec.with_registry:
        made.registry = _registry(directory, lan, sorted(server.images.iterdir()))
        use(made.registry.url, server.containerd().layout.registries)
    server.start()
    server.ready()
    if spec.reached:
        lan.route(POD_CIDR, ip)
    token = server.join_token() if spec.nodes > 1 else ""
    for number in range(1, spec.nodes):
        namespace, ip = lan.attach(f"node{number}")
        agent = Agent(_place(directory, namespace), namespace, ip, server.url, token, tuple(spec.agent_flags))
        agent.images.mkdir(parents=True)
        for archive in server.images.iterdir():
            os.link(archive, agent.images / archive.name)
        if made.registry is not None:
            use(made.registry.url, agent.containerd().layout.registries)
        agent.start()
        made.agents.append(agent)
    made.ready()
    return made


def take_down(directory: Path) -> None:
    """Remove whatever there is of a cluster: its processes, pods, containerds, network and directory. Raises CriError with what resists."""
    # A number may be another cluster's by now, if the Lan is not there any more: then neither are the nodes, which are ended before it is.
    for name in lans.owned(directory):
        asyncio.run(_end_nodes(list(directory.glob(f"{name}-*"))))
        lans.remove(name)
    shutil.rmtree(directory)


async def _end_nodes(places: Sequence[Path]) -> None:
    for result in await asyncio.gather(*map(_end_node, places), return_exceptions=True):
        if result is not None:
            raise result


async def _end_node(place: Path) -> None:
    """End a node's program, its pods and its containerd; a registry is its program alone."""
    data = place / "data"
    program = find(place)
    if program is not None:
        await program.terminate(_END_SECONDS)
        program.close()
    await stop_all(containerd(data, place.name), cgroup=f"/{place.name}", directories=(place,))


def _registry(directory: Path, lan: Lan, archives: Sequence[Path]) -> Registry:
    namespace, ip = lan.attach("registry")
    registry = Registry(_place(directory, namespace), namespace, ip)
    registry.serve(archives)
    return registry


def _place(directory: Path, namespace: str) -> Path:
    """The directory of a node, which is named like it."""
    path = directory / namespace
    path.mkdir()
    return path


def _take_down_abandoned() -> None:
    """Clusters whose test session was killed."""
    for owner in _SCRATCH.glob(f"{_PREFIX}*/{_OWNER}"):
        if not owner.exists():
            with contextlib.suppress(OSError), owner.parent.joinpath("lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                take_down(owner.parent)
