"""An agent as a unit of a real systemd, and its server on another machine, as far as the network can tell: in a namespace of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.objects import pod, service, web
from tests.guest.conftest import CONFIG
from tests.guest.test_units import container_pid, shown
from tests.support.command import Kubectl
from tests.support.guest import STRETCH, Guest
from tests.support.guestimage import PROGRAM
from tests.support.waiting import eventually

UNIT = "minikube-py-agent"
DATA = "/var/lib/minikube-py-node"  # not that of the server's own node
SERVER = "192.168.77.2"
NODE = "worker"  # the machine's own name is the server's too, and no node gets a certificate of that

NETWORK = f"""
set -e
ip netns add control
ip link add control type veth peer name eth0 netns control
ip addr add 192.168.77.1/24 dev control
ip link set control up
ip -n control link set lo up
ip -n control link set eth0 up
ip -n control addr add {SERVER}/24 dev eth0
ip -n control route add default via 192.168.77.1
systemd-run --quiet --unit=forward --socket-property=ListenStream=6443 /lib/systemd/systemd-socket-proxyd {SERVER}:6443
"""
INSIDE = "nsenter --net=/run/netns/control"
CONTROL = f"""
systemd-run --quiet --unit=control --service-type=notify -p TimeoutStartSec=infinity \\
    {INSIDE} {PROGRAM}/bin/minikube-py server --disable-agent --config /dev/null --data-dir /var/lib/control
"""
AWAY = f"systemctl stop control; kill $(cat {DATA}/agent/containerd/containerd.pid); ip netns del control; rm -rf {DATA} /var/lib/control"


@pytest.fixture(scope="module")
def joining(guest: Guest) -> Iterator[str]:
    """The agent's configuration; its server has run, and is away. The machine is a server's node again at the end."""
    before = guest.kubectl()
    before("delete", "pods,deployments,services", "--all", "--grace-period=1")
    guest.run("systemctl disable --now minikube-py", timeout=10 * STRETCH)
    guest.run("kill $(cat /var/lib/minikube-py/agent/containerd/containerd.pid)")
    try:
        guest.run(NETWORK, timeout=10 * STRETCH)
        guest.run(CONTROL, timeout=20 * STRETCH)
        token = guest.out(f"{INSIDE} {PROGRAM}/bin/minikube-py token create --data-dir /var/lib/control", timeout=10 * STRETCH)
        guest.run(f"mkdir -p {DATA}/agent && cp -r /var/lib/minikube-py/agent/images {DATA}/agent")
        guest.run("systemctl stop control", timeout=10 * STRETCH)
        yield f"server: https://{SERVER}:6443\ntoken: {token}\ndata-dir: {DATA}\nnode-name: {NODE}\n"
    finally:
        guest.run(f"systemctl stop {UNIT} forward.socket forward", check=False, timeout=10 * STRETCH)
        guest.run(AWAY, check=False, timeout=10 * STRETCH)
        guest.serve(CONFIG)


@pytest.fixture(scope="module")
def kubectl(guest: Guest, joining: str) -> Iterator[Kubectl]:
    """The agent is active and its server is there, since the first test."""
    kubectl = guest.kubectl()
    kubectl.until("True", '.items[0].status.conditions[?(@.type=="Ready")].status', "nodes", timeout=30 * STRETCH)
    yield kubectl
    kubectl("delete", "pods,deployments,services", "--all", "--grace-period=1")


def test_the_unit_is_active_when_its_node_is_part_of_the_cluster_and_not_before(guest: Guest, joining: str) -> None:
    guest.run("cat >/etc/minikube-py/config.yaml", stdin=joining)
    guest.run(f"systemctl start --no-block {UNIT}")
    guest.until(f"journalctl -u {UNIT} -o cat --no-pager | grep -q 'the server does not answer'", timeout=30)
    assert shown(guest, "ActiveState", "NRestarts", unit=UNIT) == {"ActiveState": "activating", "NRestarts": "0"}
    guest.run(CONTROL, timeout=20 * STRETCH)
    guest.run(f"systemctl start {UNIT}", timeout=30 * STRETCH)
    kubectl = guest.kubectl()
    # no waiting: what systemd calls active is registered, and is reached by the API server
    assert kubectl.get("nodes")["items"][0]["metadata"]["name"] == NODE
    assert kubectl("get", "--raw", f"/api/v1/nodes/{NODE}/proxy/healthz") == "ok"
    found = shown(guest, "ActiveState", "SubState", "NRestarts", "Result", "KillMode", unit=UNIT)
    assert found == {"ActiveState": "active", "SubState": "running", "NRestarts": "0", "Result": "success", "KillMode": "process"}


def test_a_stop_a_restart_and_a_kill_leave_pods_and_their_runtime_alone(guest: Guest, kubectl: Kubectl) -> None:
    kubectl.apply(pod("stays", "sleep", "2345678"), web("web"), service("web"))
    kubectl.wait("condition=Ready", "pod/stays", timeout=int(30 * STRETCH))
    kubectl.wait("condition=Available", "deployment/web", timeout=int(30 * STRETCH))
    address = kubectl.field(".spec.clusterIP", "service", "web")
    first, runtime = container_pid(guest, "2345678"), guest.out(f"cat {DATA}/agent/containerd/containerd.pid")

    def same() -> None:
        assert container_pid(guest, "2345678") == first
        # a slow machine may take its server for away, and learn of the newest Service when it is not
        guest.until(f"busybox wget -q -O - http://{address} | grep -q '^web-'", timeout=1 if STRETCH == 1 else 20)

    def counted() -> None:
        """What the agent tells of the pod once it is back."""
        kubectl.until("true", ".status.containerStatuses[0].ready", "pod", "stays", timeout=20 * STRETCH)
        assert kubectl.field(".status.containerStatuses[0].restartCount", "pod", "stays") == "0"

    main = shown(guest, "MainPID", unit=UNIT)["MainPID"]
    guest.run(f"systemctl restart {UNIT}", timeout=30 * STRETCH)
    before = shown(guest, "MainPID", "NRestarts", "ActiveState", unit=UNIT)
    assert before["MainPID"] != main and before["ActiveState"] == "active"
    same()
    counted()
    guest.run(f"kill -9 {before['MainPID']}")

    def back() -> bool:
        now = shown(guest, "NRestarts", "ActiveState", unit=UNIT)
        return now == {"ActiveState": "active", "NRestarts": str(int(before["NRestarts"]) + 1)}

    eventually(back, "the unit is active again", 30 * STRETCH)
    same()
    counted()
    guest.run(f"systemctl stop {UNIT}", timeout=10 * STRETCH)
    assert shown(guest, "ActiveState", "Result", unit=UNIT) == {"ActiveState": "inactive", "Result": "success"}
    assert guest.out(f"busybox wget -q -O - http://{address}").startswith("web-"), "services go on without the agent"
    same()
    guest.run(f"systemctl start {UNIT}", timeout=30 * STRETCH)
    same()
    counted()
    assert STRETCH > 1 or guest.out(f"cat {DATA}/agent/containerd/containerd.pid") == runtime


def test_without_its_server_it_is_active_all_the_same(guest: Guest, kubectl: Kubectl) -> None:
    kubectl.apply(pod("waits", "sleep", "8765432"))
    kubectl.wait("condition=Ready", "pod/waits", timeout=int(30 * STRETCH))
    first = container_pid(guest, "8765432")
    guest.run("systemctl stop control", timeout=10 * STRETCH)
    guest.run(f"systemctl restart {UNIT}", timeout=30 * STRETCH)
    assert shown(guest, "ActiveState", unit=UNIT) == {"ActiveState": "active"}
    assert container_pid(guest, "8765432") == first
    # below the pods' cgroup, not the unit's: who ends the unit's processes has none of theirs
    assert "/kubepods/besteffort/pod" in guest.out(f"cat /proc/{first}/cgroup")
    guest.run(CONTROL, timeout=20 * STRETCH)
    kubectl.until("true", ".status.containerStatuses[0].ready", "pod", "waits", timeout=30 * STRETCH)
    assert container_pid(guest, "8765432") == first


def test_the_journal_has_its_priorities_and_no_traceback(guest: Guest, kubectl: Kubectl) -> None:
    entries = [json.loads(line) for line in guest.out(f"journalctl -u {UNIT} -o json --no-pager", timeout=120).splitlines()]
    mine = [entry for entry in entries if entry.get("_COMM") == "minikube-py"]
    assert any("the node runs" in str(entry["MESSAGE"]) and entry["PRIORITY"] == "6" for entry in mine)
    assert any("the server does not answer" in str(entry["MESSAGE"]) and entry["PRIORITY"] == "4" for entry in mine)
    assert not [entry["MESSAGE"] for entry in entries if "Traceback" in str(entry["MESSAGE"])]
    assert not [entry["MESSAGE"] for entry in mine if int(entry["PRIORITY"]) <= 3]
