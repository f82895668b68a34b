"""The machine's end: a shutdown that gives pods their time, and a cut of power that gives nothing any."""

from __future__ import annotations

import time

from tests.e2e.objects import pod, service, web
from tests.support.command import Kubectl
from tests.support.guest import STRETCH, Guest
from tests.support.load import Writers

TERM = "trap 'sleep 3; date +%s >>/kept/ended; sync; exit 0' TERM; date +%s >>/kept/started; sync; while true; do sleep 0.2; done"


def kept(name: str, path: str, **more: object) -> dict[str, object]:
    """A pod that notes its beginnings, and its ends if it is given the time."""
    volumes = [{"name": "kept", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]
    mounts = [{"name": "kept", "mountPath": "/kept"}]
    return pod(name, "sh", "-c", TERM, terminationGracePeriodSeconds=60, volumes=volumes, volumeMounts=mounts, **more)


def node_ready(kubectl: Kubectl) -> None:
    kubectl.until("True", '.items[0].status.conditions[?(@.type=="Ready")].status', "nodes", timeout=60 * STRETCH)


def test_a_reboot_ends_pods_in_their_time_and_brings_them_back(guest: Guest, kubectl: Kubectl) -> None:
    workload = web("web")
    kubectl.apply(
        workload, service("web"), kept("lone", "/var/lone"), kept("critical", "/var/critical", priorityClassName="system-node-critical")
    )
    kubectl.wait("condition=Available", "deployment/web", timeout=int(60 * STRETCH))
    for name in ("lone", "critical"):
        kubectl.wait("condition=Ready", f"pod/{name}", timeout=int(30 * STRETCH))
        guest.until(f"[ -s /var/{name}/started ]")
    before = guest.boot_id()
    guest.run("systemctl reboot", check=False)
    guest.restarted(before, 180)
    ended = {name: guest.out(f"cat /var/{name}/ended").split() for name in ("lone", "critical")}
    assert {name: len(times) for name, times in ended.items()} == {"lone": 1, "critical": 1}, (
        "each was asked to end, once, and could finish"
    )
    assert int(ended["critical"][0]) >= int(ended["lone"][0]), "critical pods go last"
    said = guest.out("journalctl -b -1 -u minikube-py -o cat --no-pager", timeout=120)
    assert "the machine shuts down: ending the pods" in said and "the pods have ended" in said
    assert "have not ended in their time" not in said

    guest.run("systemctl start minikube-py", timeout=30 * STRETCH)
    kubectl = guest.kubectl()
    node_ready(kubectl)
    kubectl.wait("condition=Available", "deployment/web", timeout=int(60 * STRETCH))
    # a pod that nobody made for a controller has ended for good, as upstream's kubelet has it
    lone = kubectl.get("pod", "lone")["status"]
    assert (lone["phase"], lone["reason"]) == ("Failed", "Terminated")
    address = kubectl.field(".spec.clusterIP", "service", "web")
    assert guest.out(f"busybox wget -q -O - http://{address}").startswith("web-")


def test_the_units_of_the_machine_are_whole_after_it_was_switched_off(guest: Guest, kubectl: Kubectl) -> None:
    kubectl.apply(web("web"))
    kubectl.wait("condition=Available", "deployment/web", timeout=int(60 * STRETCH))
    began = time.monotonic()
    guest.run("systemctl poweroff", check=False)
    guest.ended(60 + 90 * STRETCH)
    print(f"off after {time.monotonic() - began:.1f} s")
    guest.boot()
    guest.run("systemctl start minikube-py", timeout=30 * STRETCH)
    kubectl = guest.kubectl()
    node_ready(kubectl)
    kubectl.wait("condition=Available", "deployment/web", timeout=int(60 * STRETCH))
    assert guest.out("systemctl --failed --no-legend --plain; systemctl is-active minikube-py") == "active"


def test_a_cut_of_power_loses_no_acknowledged_write(guest: Guest, kubectl: Kubectl) -> None:
    kubectl.apply(web("web"), service("web"))
    kubectl.wait("condition=Available", "deployment/web", timeout=int(60 * STRETCH))
    before = guest.boot_id()
    with Writers(guest.api(), threads=8, rate=20) as writers:
        for _ in range(3 if STRETCH == 1 else 1):
            writers.go_on(100, timeout=30 * STRETCH)
            guest.cut_power()
            guest.boot(60)
            assert guest.boot_id() != before
            guest.run("systemctl start minikube-py", timeout=30 * STRETCH)
            guest.api()
        writers.go_on(20, timeout=30 * STRETCH)
    looked_at = writers.verify()
    print(f"{writers.acknowledged} acknowledged, {writers.unanswered} unanswered, {looked_at} names looked at")
    assert looked_at > 30 and writers.unanswered >= 1
    kubectl = guest.kubectl()
    node_ready(kubectl)
    kubectl.wait("condition=Available", "deployment/web", timeout=int(60 * STRETCH))
    address = kubectl.field(".spec.clusterIP", "service", "web")
    assert guest.out(f"busybox wget -q -O - http://{address}").startswith("web-")
