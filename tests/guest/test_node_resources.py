"""What the node is for its pods on cgroup v2: their common limits, classes, swap, processes, and the numbers that it tells of them."""

from __future__ import annotations

import json
import time
from typing import Any

from minikube_py.kubelet import resources
from tests.e2e.objects import pod
from tests.guest.conftest import RESERVED_MEMORY, RESERVED_PIDS
from tests.guest.test_cgroups import MIB, amounts, cgroup, container, start
from tests.support.command import Kubectl
from tests.support.guest import STRETCH, Guest
from tests.support.waiting import eventually

PODS = "/sys/fs/cgroup/kubepods"
HUGE = "hugetlb.2MB.max"
UNPROTECTED = {"memory.min": "0", "memory.low": "0", "memory.high": "max"}


def read(guest: Guest, path: str, *files: str) -> dict[str, str]:
    """Files of a cgroup, of one line each."""
    return dict(zip(files, guest.out(f"cd {path} && cat {' '.join(files)}").splitlines(), strict=True))


def test_all_pods_together_are_limited_to_what_is_not_reserved(guest: Guest, kubectl: Kubectl) -> None:
    total = 1024 * int(guest.out("awk '/^MemTotal/ { print $2 }' /proc/meminfo"))
    processes = min(map(int, guest.out("cat /proc/sys/kernel/pid_max /proc/sys/kernel/threads-max").split()))
    limits = read(guest, PODS, "memory.max", "pids.max", "cpu.weight", "cpu.max")
    weight = resources.cpu_weight(resources.cpu_shares(2000 - 100))
    assert limits == {
        "memory.max": str(total - RESERVED_MEMORY),
        "pids.max": str(processes - RESERVED_PIDS),
        "cpu.weight": str(weight),
        "cpu.max": "max 100000",
    }
    shown = kubectl.get("nodes")["items"][0]["status"]["allocatable"]
    assert (shown["cpu"], shown["memory"]) == ("1900m", f"{(total - RESERVED_MEMORY - 100 * MIB) // 1024}Ki")
    assert "NodeAllocatableEnforced" in kubectl.field(".items[*].reason", "events", "--field-selector=involvedObject.kind=Node")


def test_classes_weigh_what_their_pods_ask_for_and_nobody_s_memory_is_kept_from_reclaim(guest: Guest, kubectl: Kubectl) -> None:
    asks = {"requests": {"cpu": "600m", "memory": "40Mi"}, "limits": {"memory": "80Mi"}}
    start(kubectl, pod("sure", resources=amounts("200m", "64Mi")), pod("some", resources=asks), pod("lowly"))
    expected = str(resources.cpu_weight(resources.cpu_shares(600)))
    guest.until(f"[ $(cat {PODS}/burstable/cpu.weight) = {expected} ]")
    assert read(guest, f"{PODS}/besteffort", "cpu.weight") == {"cpu.weight": "1"}
    # memory is protected and throttled with the alpha feature MemoryQoS alone, which is off
    for name, qos in (("sure", ""), ("some", "/burstable"), ("lowly", "/besteffort")):
        path = cgroup(kubectl, name, qos)
        for place in (f"{PODS}{qos}", path, f"{path}/{container(kubectl, name)}"):
            assert read(guest, place, *UNPROTECTED) == UNPROTECTED, place
        # nobody has asked for huge pages; containerd passes the limits of containers on only where it is told to
        assert (read(guest, f"{PODS}{qos}", HUGE), read(guest, path, HUGE)) == ({HUGE: "max"}, {HUGE: "0"})
        # its own cgroup is the topmost that a container sees, and nothing of the machine's
        assert kubectl("exec", name, "--", "cat", "/proc/self/cgroup").strip() == "0::/"
    kubectl("delete", "pod", "some", "--grace-period=0", "--force")
    guest.until(f"[ $(cat {PODS}/burstable/cpu.weight) = 1 ]")


def test_a_pod_has_no_more_processes_than_it_may(guest: Guest, kubectl: Kubectl) -> None:
    # a shell that cannot fork ends: it is not the container's first process
    many = "(i=0; while [ $i -lt 400 ]; do sleep 10000 & i=$((i+1)); done); exec sleep 10000"
    kubectl.apply(pod("forks", "sh", "-c", many, restartPolicy="Never"))
    kubectl.until("true", ".status.containerStatuses[0].started", "pod", "forks", timeout=30 * STRETCH)
    path = cgroup(kubectl, "forks", "/besteffort")
    # before Linux 6.11 the refusal is told of the cgroup that asked, the container's
    guest.until(f"cat {path}/pids.events {path}/*/pids.events | grep -q '^max [1-9]'")
    assert int(guest.out(f"cat {path}/pids.current")) <= 300
    kubectl("delete", "pod", "forks", "--grace-period=0", "--force")
    guest.until(f"[ ! -e {path} ]", timeout=30)


def summary(kubectl: Kubectl, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what the node tells of itself, of one pod), the latter empty while it tells nothing."""
    found = json.loads(kubectl("get", "--raw", "/api/v1/nodes/guest/proxy/stats/summary"))
    return found["node"], next((p for p in found["pods"] if p["podRef"]["name"] == name), {})


def test_swap_is_the_machine_s_own_and_numbers_are_those_of_the_cgroups(guest: Guest, kubectl: Kubectl) -> None:
    guest.run("dd if=/dev/zero of=/swap bs=1M count=64 && chmod 600 /swap && mkswap /swap && swapon /swap", timeout=10 * STRETCH)
    try:
        busy = "dd if=/dev/zero of=/dev/shm/f bs=1M count=50; while true; do true; done"
        start(kubectl, pod("busy", "sh", "-c", busy, resources={"limits": {"cpu": "500m"}}))
        path = cgroup(kubectl, "busy", "/burstable")
        own = f"{path}/{container(kubectl, 'busy')}"
        # a container without a limit of memory has none of swap's either, but for what the node says
        assert read(guest, own, "memory.max", "memory.swap.max") == {"memory.max": "max", "memory.swap.max": "0"}
        guest.until(f"[ $(cat {own}/memory.current) -gt {50 * MIB} ]")
        summary(kubectl, "busy")
        time.sleep(2)
        node, shown = summary(kubectl, "busy")
        used = int(guest.out(f"awk '/^usage_usec/ {{ print $2 }}' {path}/cpu.stat"))
        (inner,) = shown["containers"]
        for each in (shown, inner):
            assert 50 * MIB < each["memory"]["workingSetBytes"] < 60 * MIB
            assert 0 < each["cpu"]["usageCoreNanoSeconds"] <= 1000 * used
            assert 0.2e9 < each["cpu"]["usageNanoCores"] < 0.7e9
            # whoever is throttled waits for the CPU
            assert each["cpu"]["psi"]["some"]["total"] > 0 and 0 < each["cpu"]["psi"]["some"]["avg10"] <= 100
            assert set(each["memory"]["psi"]) == set(each["io"]["psi"]) == {"full", "some"}
        assert inner["swap"]["swapUsageBytes"] == inner["swap"]["swapAvailableBytes"] == 0
        assert node["swap"]["swapUsageBytes"] + node["swap"]["swapAvailableBytes"] == 64 * MIB - 4096
        assert shown["memory"]["workingSetBytes"] < node["memory"]["workingSetBytes"] < 2048 * MIB
        assert node["cpu"]["psi"]["some"]["total"] > 0

        text = kubectl("get", "--raw", "/api/v1/nodes/guest/proxy/metrics/resource")
        values = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if not line.startswith("#")}
        labels = 'container="main",namespace="default",pod="busy"'
        assert values[f"container_swap_limit_bytes{{{labels}}}"] == values[f"container_swap_usage_bytes{{{labels}}}"] == 0
        assert 50 * MIB < values[f"container_memory_working_set_bytes{{{labels}}}"] < 60 * MIB
        assert values['pod_cpu_usage_seconds_total{namespace="default",pod="busy"}'] > 0 and values["node_swap_usage_bytes"] >= 0
        assert values["resource_scrape_error"] == 0
    finally:
        guest.run("swapoff /swap; rm /swap")


def test_pods_go_before_their_common_limit_is_reached(guest: Guest, kubectl: Kubectl) -> None:
    limit = int(guest.out(f"cat {PODS}/memory.max"))
    start(kubectl, pod("modest", resources={"requests": {"memory": "30Mi"}}))
    fills = f"dd if=/dev/zero of=/dev/shm/f bs=1M count={limit // MIB - 80}; sleep 10000"
    volumes = [{"name": "memory", "emptyDir": {"medium": "Memory"}}]
    kubectl.apply(pod("greedy", "sh", "-c", fills, volumes=volumes, volumeMounts=[{"name": "memory", "mountPath": "/dev/shm"}]))
    kubectl.until("Evicted", ".status.reason", "pod", "greedy", timeout=60 * STRETCH)
    message = kubectl.field(".status.message", "pod", "greedy")
    assert message.startswith("The node was low on resource: memory. Threshold quantity: 100Mi, available: "), message
    # the machine itself had enough left
    assert guest.out("journalctl -k --no-pager -o cat | grep -c 'oom-kill:.*kubepods,'; true") == "0"
    assert kubectl.field(".status.phase", "pod", "modest") == "Running"

    def relieved() -> bool:
        return kubectl.field('.items[0].status.conditions[?(@.type=="MemoryPressure")].status', "nodes") == "False"

    eventually(relieved, "the pressure is over", 60 * STRETCH)
