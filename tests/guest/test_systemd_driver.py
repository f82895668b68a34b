"""The distribution's containerd as a unit of its own, told to have systemd make the cgroups: the node follows, with slices."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.objects import pod
from tests.guest.conftest import CONFIG
from tests.guest.test_cgroups import MIB, amounts, container, settings, start
from tests.support.command import Kubectl
from tests.support.guest import STRETCH, Guest
from tests.support.guestimage import PROGRAM

CONTAINERD = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "minikube-py.internal/pause:1"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = true
"""
IMPORT = f"""
for archive in {PROGRAM}/lib/python3*/site-packages/minikube_py/cri/data/pause.tar /var/lib/minikube-py/agent/images/*.tar; do
    ctr -n k8s.io images import $archive
done
"""
ENDPOINT = "container-runtime-endpoint: unix:///run/containerd/containerd.sock\n"


@pytest.fixture(scope="module")
def kubectl(guest: Guest) -> Iterator[Kubectl]:
    """The node on the machine's own containerd; as it was before at the end."""
    before = guest.kubectl()
    before("delete", "pods,deployments", "--all", "--grace-period=1")
    guest.run("systemctl stop minikube-py; kill $(cat /var/lib/minikube-py/agent/containerd/containerd.pid)", timeout=10 * STRETCH)
    guest.run("cp -a /etc/containerd /root/containerd.before && cat >/etc/containerd/config.toml", stdin=CONTAINERD)
    guest.run(f"systemctl start containerd; {IMPORT}", timeout=20 * STRETCH)
    guest.run("cat >/etc/minikube-py/config.yaml", stdin=CONFIG + ENDPOINT)
    try:
        guest.run("systemctl start minikube-py", timeout=20 * STRETCH)
        kubectl = guest.kubectl()
        kubectl.until("True", '.items[0].status.conditions[?(@.type=="Ready")].status', "nodes", timeout=30 * STRETCH)
        yield kubectl
        kubectl("delete", "pods", "--all", "--grace-period=1")
    finally:
        guest.run("cat >/etc/minikube-py/config.yaml", stdin=CONFIG)
        guest.run("systemctl stop minikube-py containerd", timeout=20 * STRETCH)
        guest.run("rm -r /etc/containerd && mv /root/containerd.before /etc/containerd")
        guest.run("systemctl start minikube-py", timeout=20 * STRETCH)


def test_pods_are_slices_with_their_limits(guest: Guest, kubectl: Kubectl) -> None:
    start(kubectl, pod("web", resources=amounts("800m", "64Mi")), pod("least", "sleep", "3344556"))
    uid, id = kubectl.field(".metadata.uid", "pod", "web"), container(kubectl, "web")
    unit = f"kubepods-pod{uid.replace('-', '_')}.slice"
    path = f"/sys/fs/cgroup/kubepods.slice/{unit}"
    limits = {"cpu.max": "80000 100000", "cpu.weight": "32", "memory.max": str(64 * MIB)}
    assert settings(guest, path) == {**limits, "memory.oom.group": "0", "pids.max": "300"}
    own = f"{path}/cri-containerd-{id}.scope"
    found = settings(guest, own)
    assert (found["cpu.max"], found["memory.max"]) == (limits["cpu.max"], limits["memory.max"])
    assert guest.out(f"cat {path}/hugetlb.2MB.max") == "0"
    shown = set(guest.out(f"systemctl show {unit} -p MemoryMax,TasksMax,ActiveState").split())
    assert shown == {"ActiveState=active", f"MemoryMax={64 * MIB}", "TasksMax=300"}
    assert guest.out("cat /sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice/cpu.weight") == "1"

    for cpu, memory, quota, limit in (("1500m", "96Mi", "150000", 96), ("600m", "32Mi", "60000", 32)):
        body = {"spec": {"containers": [{"name": "main", "resources": amounts(cpu, memory)}]}}
        kubectl("patch", "pod", "web", "--subresource=resize", "--patch", json.dumps(body))
        kubectl.until(memory, ".status.containerStatuses[0].resources.limits.memory", "pod", "web", timeout=20 * STRETCH)
        kubectl.until(cpu, ".status.containerStatuses[0].resources.limits.cpu", "pod", "web", timeout=20 * STRETCH)
        for place in (path, own):
            found = settings(guest, place)
            assert (found["cpu.max"], found["memory.max"]) == (f"{quota} 100000", str(limit * MIB)), place
    # systemd looks at all of its cgroups again, and has nothing else in mind
    guest.run("systemctl daemon-reload", timeout=10 * STRETCH)
    assert settings(guest, path)["memory.max"] == str(32 * MIB)
    assert kubectl.field(".status.containerStatuses[0].restartCount", "pod", "web") == "0"

    first = guest.out("pgrep -f '^sleep 3344556$'")
    guest.run("systemctl restart minikube-py", timeout=20 * STRETCH)
    kubectl.until("true", ".status.containerStatuses[0].ready", "pod", "least", timeout=20 * STRETCH)
    assert guest.out("pgrep -f '^sleep 3344556$'") == first
    kubectl("delete", "pod", "web", "--grace-period=0", "--force")
    guest.until(f"[ ! -e {path} ]")
    guest.until(f"! systemctl list-units --all --plain | grep -q {unit}")


def test_the_kernel_ends_what_takes_too_much(guest: Guest, kubectl: Kubectl) -> None:
    more = {"resources": amounts("1", "24Mi"), "restartPolicy": "Never"}
    kubectl.apply(pod("eats", "sh", "-c", "x=a; while true; do x=$x$x; done", **more))
    kubectl.until("OOMKilled", ".status.containerStatuses[0].state.terminated.reason", "pod", "eats", timeout=60 * STRETCH)
