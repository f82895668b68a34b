"""The server as a unit of a real systemd: what active means, what a stop and a restart leave alone, what the journal says."""

from __future__ import annotations

import json

from tests.e2e.objects import pod, service, web
from tests.support.command import Kubectl
from tests.support.guest import STRETCH, Guest
from tests.support.waiting import eventually

UNIT = "minikube-py"


def shown(guest: Guest, *names: str, unit: str = UNIT) -> dict[str, str]:
    """Properties of a unit."""
    lines = guest.out(f"systemctl show {unit} -p {','.join(names)}").splitlines()
    return dict(line.split("=", 1) for line in lines)


def runtime(guest: Guest) -> str:
    """containerd's process. Where everything takes its time, a server that comes back may find that it does not answer, and replace it."""
    return guest.out("pgrep -x containerd") if STRETCH == 1 else "any"


def container_pid(guest: Guest, name: str) -> str:
    """The first process of a pod's container, as the machine sees it."""
    return guest.out(f"pgrep -f '^sleep {name}$'")


def test_the_machine_is_what_it_is_meant_to_be(guest: Guest) -> None:
    assert guest.out("cat /proc/1/comm; stat -fc %T /sys/fs/cgroup; systemctl is-system-running --wait").split() == [
        *("systemd", "cgroup2fs", "running")
    ]


def test_the_unit_is_active_when_the_api_is_ready_and_not_before(guest: Guest) -> None:
    server = guest.api()
    guest.run(f"systemctl stop {UNIT}", timeout=10 * STRETCH)
    guest.run(f"systemctl start --no-block {UNIT}")
    port = f"/dev/tcp/127.0.0.1/{6443}"
    before = guest.out(f"bash -c 'systemctl is-active {UNIT}; (: <{port}) 2>/dev/null && echo open || echo closed'").split()
    assert before == ["activating", "closed"]
    guest.run(f"systemctl start {UNIT}", timeout=20 * STRETCH)
    # no waiting: what systemd calls active answers, and is ready
    assert server.is_ready()
    found = shown(guest, "ActiveState", "SubState", "NRestarts", "Result")
    assert found == {"ActiveState": "active", "SubState": "running", "NRestarts": "0", "Result": "success"}


def test_a_stop_and_a_restart_leave_pods_and_their_runtime_alone(guest: Guest, kubectl: Kubectl) -> None:
    kubectl.apply(pod("stays", "sleep", "1234567"), web("web"), service("web"))
    kubectl.wait("condition=Ready", "pod/stays", timeout=int(30 * STRETCH))
    kubectl.wait("condition=Available", "deployment/web", timeout=int(30 * STRETCH))
    address = kubectl.field(".spec.clusterIP", "service", "web")
    running, first, main = runtime(guest), container_pid(guest, "1234567"), shown(guest, "MainPID")["MainPID"]

    guest.run(f"systemctl restart {UNIT}", timeout=20 * STRETCH)
    assert shown(guest, "MainPID")["MainPID"] != main
    guest.run(f"systemctl stop {UNIT}", timeout=10 * STRETCH)
    assert shown(guest, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert (runtime(guest), container_pid(guest, "1234567")) == (running, first)
    assert guest.out(f"busybox wget -q -O - http://{address}").startswith("web-"), "services go on without the server"

    guest.run(f"systemctl start {UNIT}", timeout=20 * STRETCH)
    kubectl.until("true", ".status.containerStatuses[0].ready", "pod", "stays", timeout=20 * STRETCH)
    assert kubectl.field(".status.containerStatuses[0].restartCount", "pod", "stays") == "0"
    assert (runtime(guest), container_pid(guest, "1234567")) == (running, first)


def test_a_server_that_was_killed_is_started_again(guest: Guest, kubectl: Kubectl) -> None:
    kubectl.apply(pod("lives", "sleep", "7654321"))
    kubectl.wait("condition=Ready", "pod/lives", timeout=int(30 * STRETCH))
    before = shown(guest, "MainPID", "NRestarts")
    first = container_pid(guest, "7654321")
    guest.run(f"kill -9 {before['MainPID']}")

    def back() -> bool:
        now = shown(guest, "MainPID", "NRestarts", "ActiveState")
        return now["ActiveState"] == "active" and now["NRestarts"] == str(int(before["NRestarts"]) + 1)

    eventually(back, "the unit is active again", 30 * STRETCH)
    kubectl.until("true", ".status.containerStatuses[0].ready", "pod", "lives", timeout=20 * STRETCH)
    assert container_pid(guest, "7654321") == first


def test_pods_are_in_a_cgroup_of_their_own_and_not_in_the_units(guest: Guest, kubectl: Kubectl) -> None:
    kubectl.apply(pod("one", "sleep", "1122334"))
    kubectl.wait("condition=Ready", "pod/one", timeout=int(30 * STRETCH))
    uid = kubectl.field(".metadata.uid", "pod", "one")
    assert f"/besteffort/pod{uid}/" in guest.out(f"cat /proc/{container_pid(guest, '1122334')}/cgroup")
    # what systemd does with its own cgroups takes nothing from the pods'
    controllers = guest.out("cat /sys/fs/cgroup/kubepods/cgroup.subtree_control")
    assert {"cpu", "memory", "pids"} <= set(controllers.split())
    guest.run("systemctl daemon-reload; systemctl restart systemd-journald; systemd-run --wait -p CPUWeight=50 true", timeout=10 * STRETCH)
    assert guest.out("cat /sys/fs/cgroup/kubepods/cgroup.subtree_control") == controllers
    assert guest.out(f"cat /sys/fs/cgroup/kubepods/besteffort/pod{uid}/cpu.weight") == "1"


def test_the_journal_has_one_entry_a_line_with_its_priority_and_no_traceback(guest: Guest) -> None:
    entries = [json.loads(line) for line in guest.out(f"journalctl -u {UNIT} -o json --no-pager", timeout=120).splitlines()]
    mine = [entry for entry in entries if entry.get("_COMM") == "minikube-py"]
    assert len(mine) > 5 and any("serving the API" in str(entry["MESSAGE"]) for entry in mine)
    assert not [entry["MESSAGE"] for entry in entries if "Traceback" in str(entry["MESSAGE"])]
    for entry in mine:
        level = next(
            (n for word, n in (("ERROR", "3"), ("WARNING", "4"), ("INFO", "6"), ("DEBUG", "7")) if f" {word} " in str(entry["MESSAGE"])), ""
        )
        assert entry["PRIORITY"] == level, entry["MESSAGE"]
    errors = [entry["MESSAGE"] for entry in mine if int(entry["PRIORITY"]) <= 3]
    assert errors == []
