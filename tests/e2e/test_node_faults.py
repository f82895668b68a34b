"""containerd and the server ended under running pods: the pods run on, the same processes, and are taken over without a restart."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.e2e.objects import config_map, pod, service, web
from tests.support.cluster import Cluster, cluster
from tests.support.command import Kubectl

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def faulted() -> Iterator[Cluster]:
    """A cluster of its own, with a Deployment of two pods behind a Service."""
    with cluster() as made:
        kubectl = made.kubectl()
        kubectl.apply(web("site", 2), service("site", type="NodePort"), pod("bare"), config_map("settings", colour="red"))
        kubectl("rollout", "status", "deployment/site", "--timeout=30s")
        kubectl.wait("condition=Ready", "pod/bare")
        yield made


def until(what: str, check: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.05)


def containerd_pid(cluster: Cluster) -> int:
    return int(cluster.containerd().layout.pid.read_text())


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class State(NamedTuple):
    """What must not change of a pod."""

    uid: str
    phase: str
    restarts: int
    container: str
    address: str


def states(kubectl: Kubectl) -> dict[str, State]:
    """Of every pod."""
    found = {}
    for item in kubectl.get("pods")["items"]:
        status = item["status"]
        (container,) = status["containerStatuses"]
        meta = item["metadata"]
        found[meta["name"]] = State(meta["uid"], status["phase"], container["restartCount"], container["containerID"], status["podIP"])
    assert len(found) == 3 and {state.phase for state in found.values()} == {"Running"}
    return found


def processes_of(cluster: Cluster, pods: dict[str, State]) -> dict[int, str]:
    found = cluster.pod_processes(state.uid for state in pods.values())
    assert len(found) == 6, "a pause and a server for each pod"
    return found


def serves(cluster: Cluster, address: str) -> bool:
    return cluster.on_node("busybox", "wget", "-qO-", f"http://{address}/").stdout.startswith("site-")


def works(cluster: Cluster) -> None:
    """Everything that a user does works: exec, logs, a new pod, its end."""
    kubectl = cluster.kubectl()
    until("exec works", lambda: kubectl.result("exec", "bare", "--", "hostname").stdout == "bare\n")
    kubectl.apply(pod("new", "sh", "-c", "echo hello; exec sleep 1000"))
    kubectl.wait("condition=Ready", "pod/new")
    assert kubectl("logs", "new") == "hello\n"
    kubectl("delete", "pod", "new")
    assert kubectl.field(".status.conditions[?(@.type=='Ready')].status", f"node/{cluster.node_name}") == "True"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_containerd_ended_under_running_pods(faulted: Cluster, number: signal.Signals) -> None:
    kubectl = faulted.kubectl()
    before, old = states(kubectl), containerd_pid(faulted)
    processes = processes_of(faulted, before)
    os.kill(old, number)
    until("containerd is gone", lambda: not alive(old))
    until("it is started again", lambda: alive(containerd_pid(faulted)) and containerd_pid(faulted) != old)
    works(faulted)
    assert processes_of(faulted, before) == processes
    assert states(kubectl) == before


def test_pods_made_while_containerd_is_away_come_up_with_it(faulted: Cluster) -> None:
    kubectl = faulted.kubectl()
    old = containerd_pid(faulted)
    os.kill(old, signal.SIGKILL)
    kubectl.apply(pod("late"))
    kubectl.wait("condition=Ready", "pod/late")
    kubectl("delete", "pod", "late")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_the_server_ended_under_running_pods(faulted: Cluster, number: signal.Signals) -> None:
    kubectl = faulted.kubectl()
    before, containerd = states(kubectl), containerd_pid(faulted)
    processes = processes_of(faulted, before)
    address = kubectl.field(".spec.clusterIP", "service/site")
    uid = kubectl.field(".metadata.uid", "configmap/settings")
    faulted.stop(number)
    assert serves(faulted, address)
    assert processes_of(faulted, before) == processes
    faulted.start()
    faulted.ready()
    works(faulted)
    assert serves(faulted, address)
    assert processes_of(faulted, before) == processes
    assert containerd_pid(faulted) == containerd
    assert states(kubectl) == before
    assert kubectl.field(".metadata.uid", "configmap/settings") == uid


def test_what_is_ready_stays_ready(faulted: Cluster) -> None:
    faulted.stop(signal.SIGKILL)
    faulted.start()
    faulted.ready()
    for _ in range(40):
        assert faulted.request("GET", "/readyz").status == 200
        time.sleep(0.05)
    works(faulted)


def test_what_happened_while_the_server_was_away_is_seen_to(faulted: Cluster) -> None:
    kubectl = faulted.kubectl()
    kubectl.apply(pod("dies", "sh", "-c", "exec sleep 54321"), pod("ends", "sh", "-c", "exec sleep 54322", restartPolicy="Never"))
    kubectl.wait("condition=Ready", "pod/dies", "pod/ends")
    uids = [kubectl.field(".metadata.uid", name) for name in ("pod/dies", "pod/ends")]
    faulted.stop(signal.SIGKILL)
    for pid in faulted.pod_processes(uids):
        with open(f"/proc/{pid}/cmdline") as file:
            if "\x005432" in file.read():
                os.kill(pid, signal.SIGKILL)
    faulted.start()
    faulted.ready()
    kubectl.until("1", ".status.containerStatuses[0].restartCount", "pod/dies")
    kubectl.wait("condition=Ready", "pod/dies")
    kubectl.until("Failed", ".status.phase", "pod/ends")
    assert kubectl.field(".status.containerStatuses[0].state.terminated.exitCode", "pod/ends") == "137"
    kubectl("delete", "pod", "dies", "ends")


def test_the_server_and_containerd_ended_together(faulted: Cluster) -> None:
    kubectl = faulted.kubectl()
    before, old = states(kubectl), containerd_pid(faulted)
    processes = processes_of(faulted, before)
    faulted.stop(signal.SIGKILL)
    os.kill(old, signal.SIGKILL)
    until("containerd is gone", lambda: not alive(old))
    faulted.start()
    faulted.ready()
    works(faulted)
    assert processes_of(faulted, before) == processes
    assert states(kubectl) == before


def test_a_server_that_ends_in_the_middle_of_a_deletion_goes_on_with_it(faulted: Cluster) -> None:
    kubectl = faulted.kubectl()
    deaf = pod("deaf", "sh", "-c", "trap '' TERM; while true; do sleep 0.5; done", terminationGracePeriodSeconds=6)
    kubectl.apply(deaf)
    kubectl.wait("condition=Ready", "pod/deaf")
    kubectl("delete", "pod", "deaf", "--wait=false")
    started = time.monotonic()
    faulted.stop()
    assert time.monotonic() - started < 5, "the server waited for the pod"
    faulted.start()
    faulted.ready()
    kubectl.wait("delete", "pod/deaf")
