"""What can happen to a cluster of two nodes, and what must still be true afterwards.

`Watched` is a cluster under load: writers who remember what they were promised, and somebody on each node who asks a Service of pods on
both all the time. `check` says that nothing was lost, and that the pods are the processes that they were.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tests.e2e.objects import Object, pod, service, web
from tests.support.cluster import Agent, Cluster, Nodes
from tests.support.command import Kubectl
from tests.support.load import Probe, Writers, probing
from tests.support.netns import run
from tests.support.waiting import eventually

_NOWHERE = "02:00:00:00:00:01"  # a hardware address that nobody on the bridge has


@dataclass
class Watched:
    """A cluster under load."""

    nodes: Nodes
    kubectl: Kubectl
    writers: Writers
    probes: Sequence[Probe]
    containers: dict[str, tuple[str, int]]
    """By pod: its container, and how often that was restarted."""

    @property
    def members(self) -> list[Cluster | Agent]:
        """The nodes, the server's first."""
        return list(self.nodes.members)

    def check(self) -> None:
        """Nothing that was acknowledged is lost, no pod was touched, everybody was answered."""
        self.writers.verify()
        eventually(lambda: containers(self.kubectl) == self.containers, f"the pods that there were: {self.containers}")
        for probe in self.probes:
            probe.sound()

    def works(self) -> None:
        """Both nodes are Ready and run what they are told to, and let go of it."""
        self.nodes.ready()
        names = [f"new-{number}" for number in range(len(self.members))]
        made = [pod(name, nodeName=member.node_name) for name, member in zip(names, self.members, strict=True)]
        self.kubectl.apply(*made)
        self.kubectl("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), "--timeout=60s")
        self.kubectl("delete", "pod", "--timeout=40s", *names)


@contextlib.contextmanager
def watched(nodes: Nodes) -> Iterator[Watched]:
    """Put the cluster under load; at the end everything is checked once more."""
    kubectl = nodes.server.kubectl()
    address = kubectl.field(".spec.clusterIP", "service/both")
    with contextlib.ExitStack() as stack:
        writers = stack.enter_context(Writers(nodes.server))
        probes = [stack.enter_context(probing(name, address)) for name in nodes.names]
        made = Watched(nodes, kubectl, writers, probes, containers(kubectl))
        yield made
        writers.go_on(10)
        made.check()


def deploy(nodes: Nodes) -> None:
    """A web server on each node, and a Service of both."""
    kubectl = nodes.server.kubectl()
    objects: list[Object] = [{**service("both"), "spec": {**service("both")["spec"], "selector": {"part": "web"}}}]
    for number, name in enumerate(nodes.names):
        made = web(f"web-{number}")
        made["spec"]["template"]["metadata"]["labels"]["part"] = "web"
        made["spec"]["template"]["spec"]["nodeName"] = name
        # a machine that is busy with the faults may be late; a server that is gone is found by those who ask
        made["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] |= {"timeoutSeconds": 5, "failureThreshold": 5}
        objects.append(made)
    kubectl.apply(*objects)
    for number in range(len(nodes.names)):
        kubectl("rollout", "status", f"deployment/web-{number}", "--timeout=60s")
    address = kubectl.field(".spec.clusterIP", "service/both")
    for member in nodes.members:
        eventually(partial(answers, member, address), "the Service is not there on every node")


def answers(member: Cluster | Agent, address: str) -> bool:
    """Whether a web server answers to a node."""
    return member.on_node("timeout", "2", "busybox", "wget", "-qO-", f"http://{address}/").returncode == 0


def containers(kubectl: Kubectl) -> dict[str, tuple[str, int]]:
    """The containers of the web servers, and their restarts."""
    found = {}
    for item in kubectl.get("pods", "-l", "part=web")["items"]:
        (container,) = item["status"]["containerStatuses"]
        found[item["metadata"]["name"]] = (container["containerID"], container["restartCount"])
    return found


# Processes


def victims(nodes: Nodes) -> dict[str, Callable[[], None]]:
    """What can be killed, by name: the programs and their containerds."""
    made: dict[str, Callable[[], None]] = {}
    for member in nodes.members:
        made[member.node_name] = partial(_kill, member)
        made[f"{member.node_name}'s containerd"] = partial(_kill_containerd, member)
    return made


def _kill(member: Cluster | Agent) -> None:
    member.stop(signal.SIGKILL)


def _kill_containerd(member: Cluster | Agent) -> None:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):  # it is just being started
        os.kill(int(member.containerd().layout.pid.read_text()), signal.SIGKILL)


def kill_round(cluster: Watched, chosen: Sequence[str], rng: random.Random) -> None:
    """Kill -9 of what was chosen, one shortly after the other; after a while start what does not come back by itself, and look."""
    kills = victims(cluster.nodes)
    for name in chosen:
        kills[name]()
        time.sleep(rng.choice((0.0, 0.0, rng.random() / 2)))
    time.sleep(rng.random())
    ended = [member for member in cluster.members if member.process is None]
    rng.shuffle(ended)
    for member in ended:
        member.start()
    cluster.nodes.server.ready(90)
    cluster.writers.go_on(10)
    cluster.works()
    cluster.check()


def rounds(cluster: Watched, count: int, seed: int) -> Iterator[str]:
    """Rounds at random moments; what was killed in each is told when it is over. The first one kills everything at once."""
    rng = random.Random(seed)
    names = list(victims(cluster.nodes))
    for number in range(count):
        chosen = names if number == 0 else rng.sample(names, rng.randrange(1, len(names) + 1))
        time.sleep(rng.random())
        began = time.monotonic()
        kill_round(cluster, chosen, rng)
        yield f"{', '.join(chosen)}: {time.monotonic() - began:.1f} s"


# The network


@contextlib.contextmanager
def cut(*directions: tuple[Cluster | Agent, Cluster | Agent]) -> Iterator[None]:
    """For the block, what one node sends to another is lost on the way, without a word."""
    for here, there in directions:
        run("ip", "-n", here.namespace, "neigh", "replace", there.ip, "lladdr", _NOWHERE, "nud", "permanent", "dev", "eth0")
    try:
        yield
    finally:
        for here, there in directions:
            run("ip", "-n", here.namespace, "neigh", "del", there.ip, "dev", "eth0")
