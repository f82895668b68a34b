"""Limits on cgroup v2: the right files of the right cgroups, out-of-memory kills, resizes, limits of whole pods, what eviction reads."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.objects import Object, pod
from tests.support.command import Kubectl
from tests.support.guest import STRETCH, Guest
from tests.support.guestimage import PROGRAM

MIB = 1 << 20
FILES = ("cpu.max", "cpu.weight", "memory.max", "memory.oom.group", "pids.max")


def amounts(cpu: str, memory: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


def start(kubectl: Kubectl, *objects: Object) -> None:
    kubectl.apply(*objects)
    for made in objects:
        kubectl.wait("condition=Ready", f"pod/{made['metadata']['name']}", timeout=int(30 * STRETCH))


def cgroup(kubectl: Kubectl, name: str, qos: str = "") -> str:
    """The directory of a pod's cgroup in the machine."""
    return f"/sys/fs/cgroup/kubepods{qos}/pod{kubectl.field('.metadata.uid', 'pod', name)}"


def settings(guest: Guest, path: str) -> dict[str, str]:
    """What a cgroup is set to."""
    return dict(zip(FILES, guest.out(f"cd {path} && cat {' '.join(FILES)}").splitlines(), strict=True))


def container(kubectl: Kubectl, name: str) -> str:
    """The id of a pod's container, its cgroup's name."""
    return kubectl.field(".status.containerStatuses[0].containerID", "pod", name).removeprefix("containerd://")


def test_limits_are_in_the_files_of_the_pod_and_of_the_container(guest: Guest, kubectl: Kubectl) -> None:
    burstable = {"requests": {"cpu": "250m"}, "limits": {"memory": "80Mi"}}
    start(kubectl, pod("guaranteed", resources=amounts("500m", "64Mi")), pod("burstable", resources=burstable), pod("least"))
    path = cgroup(kubectl, "guaranteed")
    limits = {"cpu.max": "50000 100000", "cpu.weight": "20", "memory.max": str(64 * MIB)}
    assert settings(guest, path) == {**limits, "memory.oom.group": "0", "pids.max": "300"}
    own = settings(guest, f"{path}/{container(kubectl, 'guaranteed')}")
    assert own == {**limits, "memory.oom.group": "1", "pids.max": "max"}

    path = cgroup(kubectl, "burstable", "/burstable")
    # the sandbox's own cgroup is the only other one
    assert settings(guest, path)["memory.max"] == str(80 * MIB) and settings(guest, path)["cpu.max"] == "max 100000"
    own = settings(guest, f"{path}/{container(kubectl, 'burstable')}")
    assert (own["cpu.max"], own["cpu.weight"], own["memory.max"]) == ("max 100000", "10", str(80 * MIB))
    assert int(guest.out("cat /sys/fs/cgroup/kubepods/burstable/cpu.weight")) >= 10

    path = cgroup(kubectl, "least", "/besteffort")
    assert settings(guest, path) == {
        "cpu.max": "max 100000",
        "cpu.weight": "1",
        "memory.max": "max",
        "memory.oom.group": "0",
        "pids.max": "300",
    }
    # inside, a container sees its own cgroup as the root
    assert kubectl("exec", "guaranteed", "--", "cat", "/sys/fs/cgroup/memory.max").strip() == str(64 * MIB)
    for name, qos in (("guaranteed", ""), ("burstable", "/burstable"), ("least", "/besteffort")):
        path = cgroup(kubectl, name, qos)
        kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=true")
        guest.until(f"[ ! -e {path} ]")


def test_the_kernel_ends_all_of_a_container_that_takes_too_much(guest: Guest, kubectl: Kubectl) -> None:
    more = {"resources": amounts("1", "24Mi"), "restartPolicy": "Never"}
    kubectl.apply(pod("eats", "sh", "-c", "sleep 10000 & x=a; while true; do x=$x$x; done", **more))
    kubectl.until("Failed", ".status.phase", "pod", "eats", timeout=60 * STRETCH)
    ended = kubectl.get("pod", "eats")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)
    # a child that is killed takes its container along (memory.oom.group), as on every v2 node
    child = pod(
        "child", "sh", "-c", "sh -c 'x=a; while true; do x=$x$x; done'; sleep 10000", resources=amounts("1", "24Mi"), restartPolicy="Never"
    )
    kubectl.apply(child)
    kubectl.until("OOMKilled", ".status.containerStatuses[0].state.terminated.reason", "pod", "child", timeout=60 * STRETCH)


def test_a_running_container_is_given_more_and_less(guest: Guest, kubectl: Kubectl) -> None:
    start(kubectl, pod("web", resources=amounts("800m", "64Mi")))
    path, id = cgroup(kubectl, "web"), container(kubectl, "web")
    for cpu, memory, quota, limit in (("1500m", "96Mi", "150000", 96), ("600m", "32Mi", "60000", 32)):
        body = {"spec": {"containers": [{"name": "main", "resources": amounts(cpu, memory)}]}}
        kubectl("patch", "pod", "web", "--subresource=resize", "--patch", json.dumps(body))
        kubectl.until(memory, ".status.containerStatuses[0].resources.limits.memory", "pod", "web", timeout=20 * STRETCH)
        kubectl.until(cpu, ".status.containerStatuses[0].resources.limits.cpu", "pod", "web", timeout=20 * STRETCH)
        for place in (path, f"{path}/{id}"):
            found = settings(guest, place)
            assert (found["cpu.max"], found["memory.max"]) == (f"{quota} 100000", str(limit * MIB)), place
    assert kubectl.field(".status.containerStatuses[0].restartCount", "pod", "web") == "0" and container(kubectl, "web") == id


def test_limits_of_a_whole_pod(guest: Guest, kubectl: Kubectl) -> None:
    whole = pod("whole")
    whole["spec"]["resources"] = amounts("900m", "90Mi")
    start(kubectl, whole)
    found = settings(guest, cgroup(kubectl, "whole"))
    assert (found["cpu.max"], found["memory.max"]) == ("90000 100000", str(90 * MIB))


SIGNALS = """
import json
from minikube_py.kubelet import cgroups, machine
from minikube_py.kubelet.measure import Measure
from minikube_py.kubelet.options import KubeletOptions
made = cgroups.Cgroups(cgroups.find())
measure = Measure(None, made, KubeletOptions(node_name="guest", node_ips=("10.0.2.15",)))
print(json.dumps({"v2": made.v2, "used": made.node_working_set(), **machine.meminfo(),
    "pods": {uid: made.usage("BestEffort", uid) for uid in made.pods()},
    "signals": {k: tuple(v) for k, v in measure._node(None).items()}}))
"""


def test_what_eviction_reads_is_what_the_machine_uses(guest: Guest, kubectl: Kubectl) -> None:
    start(kubectl, pod("eats", "sh", "-c", "dd if=/dev/zero of=/dev/shm/f bs=1M count=50; sleep 10000"))
    uid = kubectl.field(".metadata.uid", "pod", "eats")
    now = f"cat /sys/fs/cgroup/kubepods/besteffort/pod{uid}/memory.current"
    guest.until(f"[ $({now}) -gt {50 * MIB} ]")
    found = json.loads(guest.run(f"{PROGRAM}/bin/python -", stdin=SIGNALS, timeout=10 * STRETCH).stdout)
    assert found["v2"]
    used, processes = found["pods"][uid]
    assert 50 * MIB < used < 80 * MIB and processes >= 2
    available, total = found["signals"]["memory.available"]
    # one was read a moment after the other
    assert total == found["MemTotal"] and abs(available - (total - found["used"])) < 4 * MIB
    # the two ways to count what is free are near one another
    assert abs(available - found["MemAvailable"]) < 0.25 * total
    assert {"nodefs.available", "nodefs.inodesFree", "pid.available"} <= set(found["signals"])
    with_pressure = kubectl.field('.items[0].status.conditions[?(@.status=="True")].type', "nodes")
    assert with_pressure == "Ready"
