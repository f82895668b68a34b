"""scripts/cluster as a user runs it: two clusters beside one another, one of them interrupted; each goes without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikube_py.cri.process import command_line
from tests.support import lan
from tests.support.clusters import HOME
from tests.support.command import Kubectl
from tests.support.kubectl import kubectl

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
SCRIPT = Path(__file__).parents[2] / "scripts" / "cluster"


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def names() -> Iterator[tuple[str, str]]:
    made = (f"a{os.getpid()}", f"b{os.getpid()}")
    yield made
    for name in made:
        script("down", "--name", name)


def left(name: str, networks: list[str]) -> list[str]:
    """What there is of a cluster: processes that name its directory, mounts below it, its networks' links, namespaces and cgroups."""
    directory = str(HOME / name)
    found = [f"process {pid}" for pid in os.listdir("/proc") if pid.isdigit() and any(directory in a for a in command_line(int(pid)))]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if directory in line]
    for network in networks:
        found += [
            str(path) for path in Path("/sys/class/net").glob(f"{network}*") if path.name in (network, f"{network}h1", f"{network}h2")
        ]
        found += [str(path) for place in ("/run/netns", "/sys/fs/cgroup/memory") for path in Path(place).glob(f"{network}-*")]
    return found


def test_two_clusters_and_one_that_was_killed_while_it_came_up(names: tuple[str, str]) -> None:
    lasting, interrupted = names
    path = Path(script("up", "--nodes", "2", "--name", lasting, "--", "--log-level", "debug").stdout.strip())
    assert path == HOME / lasting / "kubeconfig"
    client = Kubectl(kubectl(), path)
    client("create", "deployment", "hello", "--image", "web:test", "--replicas", "2")
    client("rollout", "status", "deployment/hello", "--timeout=60s")
    assert len(client.get("nodes")["items"]) == 2
    assert script("status").stdout.count(f"{lasting}\t") == 2
    again = subprocess.run([SCRIPT, "up", "--name", lasting], capture_output=True, text=True, timeout=60, check=False)
    assert again.returncode == 1 and f"scripts/cluster down --name {lasting}" in again.stderr

    coming = subprocess.Popen([SCRIPT, "up", "--name", interrupted, "--nodes", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((HOME / interrupted).glob("*/data/agent/containerd/containerd.pid")):
        assert coming.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    coming.send_signal(signal.SIGKILL)
    coming.wait(10)
    networks = lan.owned(HOME / interrupted)
    assert left(interrupted, networks)
    script("down", "--name", interrupted)
    assert left(interrupted, networks) == []

    client("get", "deployment", "hello")
    networks = lan.owned(HOME / lasting)
    assert len(networks) == 1
    script("down", "--name", lasting)
    assert left(lasting, networks) == []
    assert not (HOME / lasting).exists()
