"""What a pod gets from its node, as a user sees it: order, restarts, probes, its end, environment, volumes, limits, identity, events."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.objects import config_map, pod, secret
from tests.support import cgroups
from tests.support.cluster import Cluster
from tests.support.command import Kubectl
from tests.support.images import BUSYBOX

pytestmark = pytest.mark.cluster


def sh(kubectl: Kubectl, name: str, script: str) -> str:
    return kubectl("exec", name, "--", "sh", "-c", script)


def status(kubectl: Kubectl, name: str) -> Any:
    return kubectl.get(f"pod/{name}")["status"]["containerStatuses"][0]


def mounted(*volumes: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    """The fields of a pod for volumes given as (name, path, source)."""
    return {
        "volumes": [{"name": name, **source} for name, _, source in volumes],
        "volumeMounts": [{"name": name, "mountPath": path} for name, path, _ in volumes],
    }


def test_init_containers_come_first_and_in_order(kubectl: Kubectl) -> None:
    shared = mounted(("s", "/s", {"emptyDir": {}}))
    inits = [
        {
            "name": name,
            "image": BUSYBOX,
            "command": ["sh", "-c", f"sleep 0.3; echo {name} >> /s/order"],
            "volumeMounts": shared["volumeMounts"],
        }
        for name in ("one", "two")
    ]
    kubectl.apply(pod("web", "sh", "-c", "echo main >> /s/order; exec sleep 1000", initContainers=inits, **shared))
    with kubectl.running("get", "pod", "web", "-w", "--no-headers") as watch:
        kubectl.wait("condition=Ready", "pod/web")
        shown = watch.shows("1/1")
    assert re.search(r"Init:[01]/2", shown), shown
    assert sh(kubectl, "web", "cat /s/order") == "one\ntwo\nmain\n"


def test_a_failing_init_container_is_tried_again(kubectl: Kubectl) -> None:
    bad = {"name": "bad", "image": BUSYBOX, "command": ["sh", "-c", "echo no; exit 1"]}
    kubectl.apply(pod("web", initContainers=[bad]), pod("once", initContainers=[bad], restartPolicy="Never"))
    kubectl.until("Failed", ".status.phase", "pod/once")
    assert " Init:Error " in kubectl("get", "pod", "once")
    kubectl.until("CrashLoopBackOff", ".status.initContainerStatuses[0].state.waiting.reason", "pod/web")
    assert " Init:CrashLoopBackOff " in kubectl("get", "pod", "web")
    assert kubectl("logs", "web", "-c", "bad") == "no\n"


@pytest.mark.parametrize(
    ("policy", "code", "phase", "restarted"),
    [
        ("Never", 0, "Succeeded", False), ("Never", 3, "Failed", False), ("OnFailure", 0, "Succeeded", False),
        ("OnFailure", 3, "Running", True), ("Always", 0, "Running", True),
    ],
)  # fmt: skip
def test_restart_policies(kubectl: Kubectl, policy: str, code: int, phase: str, restarted: bool) -> None:
    kubectl.apply(pod("job", "sh", "-c", f"sleep 0.2; exit {code}", restartPolicy=policy))
    if restarted:
        kubectl.until("1", ".status.containerStatuses[0].restartCount", "pod/job")
        kubectl.until("CrashLoopBackOff", ".status.containerStatuses[0].state.waiting.reason", "pod/job")
        assert status(kubectl, "job")["lastState"]["terminated"]["exitCode"] == code
        assert re.search(r"CrashLoopBackOff +1 \(\d+s ago\)", kubectl("get", "pod", "job"))
        assert "Back-off restarting failed container main in pod job_" in kubectl("events", "--for", "pod/job")
        return
    kubectl.until(phase, ".status.phase", "pod/job")
    ended = status(kubectl, "job")
    assert ended["state"]["terminated"]["exitCode"] == code and ended["restartCount"] == 0
    assert ("Completed" if code == 0 else "Error") in kubectl("get", "pod", "job")


def test_a_liveness_probe_restarts(kubectl: Kubectl) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1, "initialDelaySeconds": 1}
    kubectl.apply(pod("web", "sh", "-c", "touch /tmp/alive; exec sleep 1000", livenessProbe=probe))
    kubectl.wait("condition=Ready", "pod/web")
    time.sleep(1.5)
    assert status(kubectl, "web")["restartCount"] == 0
    sh(kubectl, "web", "rm /tmp/alive")
    kubectl.until("1", ".status.containerStatuses[0].restartCount", "pod/web")
    shown = kubectl("events", "--for", "pod/web")
    assert "Unhealthy" in shown and "Container main failed liveness probe, will be restarted" in shown


@pytest.mark.parametrize("kind", ["exec", "httpGet", "tcpSocket"])
def test_readiness_probes(kubectl: Kubectl, kind: str) -> None:
    what = {"exec": {"command": ["test", "-e", "/tmp/www"]}, "httpGet": {"path": "/", "port": 8080}, "tcpSocket": {"port": 8080}}[kind]
    script = "sleep 1.5; mkdir /tmp/www; touch /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www"
    kubectl.apply(pod("web", "sh", "-c", script, readinessProbe={kind: what, "periodSeconds": 1}))
    kubectl.until("Running", ".status.phase", "pod/web")
    assert status(kubectl, "web")["ready"] is False
    assert kubectl.field(".status.conditions[?(@.type=='Ready')].reason", "pod/web") == "ContainersNotReady"
    kubectl.wait("condition=Ready", "pod/web")
    assert status(kubectl, "web")["restartCount"] == 0


def test_a_startup_probe_holds_the_others_back(kubectl: Kubectl) -> None:
    slow = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 30}
    live = {"exec": {"command": ["test", "-e", "/tmp/up"]}, "periodSeconds": 1, "failureThreshold": 1}
    kubectl.apply(pod("web", "sh", "-c", "sleep 3; touch /tmp/up; exec sleep 1000", startupProbe=slow, livenessProbe=live))
    kubectl.until("true", ".status.containerStatuses[0].started", "pod/web")
    kubectl.wait("condition=Ready", "pod/web")
    assert status(kubectl, "web")["restartCount"] == 0


def test_the_end_is_graceful_up_to_the_grace_period(kubectl: Kubectl, shared: Cluster) -> None:
    note: dict[str, Any] = {
        "volumes": [{"name": "n", "hostPath": {"path": str(shared.directory)}}],
        "volumeMounts": [{"name": "n", "mountPath": "/n"}],
    }
    said = f"/n/{kubectl.namespace}"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", f"echo hook >> {said}"]}}}
    polite = f"trap 'echo term >> {said}; exit 0' TERM; while true; do sleep 0.1; done"
    kubectl.apply(
        pod("polite", "sh", "-c", polite, lifecycle=hook, terminationGracePeriodSeconds=30, **note),
        pod("deaf", "sh", "-c", "trap '' TERM; while true; do sleep 0.1; done", terminationGracePeriodSeconds=2),
    )
    kubectl.wait("condition=Ready", "pod/polite", "pod/deaf")
    started = time.monotonic()
    kubectl("delete", "pod", "polite")
    assert time.monotonic() - started < 10
    assert (shared.directory / kubectl.namespace).read_text() == "hook\nterm\n"
    started = time.monotonic()
    kubectl("delete", "pod", "deaf")
    assert 1.5 < time.monotonic() - started < 10


def test_the_environment(kubectl: Kubectl) -> None:
    kubectl.apply(config_map("settings", COLOUR="red", SIZE="big"), secret("keys", PASSWORD="open"))
    env = [
        {"name": "PLAIN", "value": "1"},
        {"name": "MADE", "value": "$(PLAIN)-$(COLOUR)-$$(PLAIN)-$(NONE)"},
        {"name": "FROM_MAP", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "SIZE"}}},
        {"name": "FROM_SECRET", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "PASSWORD"}}},
        {"name": "ABSENT", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}},
        *(
            {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for name, path in (
                ("POD", "metadata.name"), ("NAMESPACE", "metadata.namespace"), ("UID", "metadata.uid"), ("IP", "status.podIP"),
                ("HOST", "status.hostIP"), ("NODE", "spec.nodeName"), ("ACCOUNT", "spec.serviceAccountName"),
                ("APP", "metadata.labels['app']"),
            )
        ),
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
    ]  # fmt: skip
    sources = [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}, "prefix": "S_"}]
    kubectl.apply(pod("web", env=env, envFrom=sources, resources={"limits": {"cpu": "250m", "memory": "32Mi"}}))
    kubectl.wait("condition=Ready", "pod/web")
    found = dict(line.partition("=")[::2] for line in kubectl("exec", "web", "--", "env").splitlines())
    of_pod = kubectl.get("pod/web")
    assert {name: found.get(name) for name in ("PLAIN", "MADE", "FROM_MAP", "FROM_SECRET", "ABSENT", "COLOUR", "S_PASSWORD", "APP")} == {
        "PLAIN": "1", "MADE": "1-red-$(PLAIN)-$(NONE)", "FROM_MAP": "big", "FROM_SECRET": "open", "ABSENT": None, "COLOUR": "red",
        "S_PASSWORD": "open", "APP": "web",
    }  # fmt: skip
    assert (found["POD"], found["NAMESPACE"], found["UID"]) == ("web", kubectl.namespace, of_pod["metadata"]["uid"])
    assert (found["IP"], found["HOST"]) == (of_pod["status"]["podIP"], of_pod["status"]["hostIP"])
    assert (found["NODE"], found["ACCOUNT"]) == (of_pod["spec"]["nodeName"], "default")
    assert (found["CPUS"], found["MEMORY"]) == ("250", "32")
    assert (found["HOSTNAME"], found["KUBERNETES_SERVICE_HOST"]) == ("web", "10.43.0.1")


def test_what_is_missing_holds_a_pod_back_until_it_is_there(kubectl: Kubectl) -> None:
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "late", "key": "a"}}}]
    kubectl.apply(pod("web", env=env), pod("other", **mounted(("v", "/v", {"configMap": {"name": "late"}}))))
    kubectl.until("CreateContainerConfigError", ".status.containerStatuses[0].state.waiting.reason", "pod/web")
    assert 'secret "late" not found' in kubectl.field(".status.containerStatuses[0].state.waiting.message", "pod/web")
    kubectl.until("ContainerCreating", ".status.containerStatuses[0].state.waiting.reason", "pod/other")
    kubectl.until(
        'MountVolume.SetUp failed for volume "v" : configmap "late" not found', ".items[?(@.reason=='FailedMount')].message", "events"
    )
    kubectl.apply(secret("late", a="1"), config_map("late", b="2"))
    kubectl.wait("condition=Ready", "pod/web", "pod/other")
    assert sh(kubectl, "web", "echo $A") == "1\n" and sh(kubectl, "other", "cat /v/b") == "2"


def test_volumes_of_every_kind(kubectl: Kubectl, shared: Cluster) -> None:
    host = shared.directory / f"host-{kubectl.namespace}"
    host.mkdir()
    (host / "there").write_text("from the host\n")
    kubectl.apply(config_map("settings", colour="red", size="big"), secret("keys", password="open"))
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 600, "audience": "somebody"}}
    labels = {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}
    projected = {"sources": [token, {"configMap": {"name": "settings", "items": [{"key": "size", "path": "deep/size"}]}}, labels]}
    volumes = mounted(
        ("empty", "/empty", {"emptyDir": {}}),
        ("memory", "/memory", {"emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}),
        ("host", "/host", {"hostPath": {"path": str(host), "type": "Directory"}}),
        ("map", "/map", {"configMap": {"name": "settings", "defaultMode": 0o400}}),
        ("secret", "/secret", {"secret": {"secretName": "keys"}}),
        ("down", "/down", {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}}),
        ("projected", "/projected", {"projected": projected}),
    )
    volumes["volumeMounts"] += [
        {"name": "map", "mountPath": "/one-file", "subPath": "colour"},
        {"name": "host", "mountPath": "/read-only", "readOnly": True},
    ]
    kubectl.apply(pod("web", **volumes))
    kubectl.wait("condition=Ready", "pod/web")
    files = "/host/there /map/colour /map/size /secret/password /down/name /projected/deep/size /projected/labels /one-file"
    assert sh(kubectl, "web", f"for f in {files}; do cat $f; echo; done").split("\n") == [
        "from the host", "", "red", "big", "open", "web", "big", 'app="web"', "red", "",
    ]  # fmt: skip
    assert sh(kubectl, "web", "cut -d. -f2 /projected/token | wc -c").strip() > "1"
    assert sh(kubectl, "web", "stat -L -c %a /map/colour; grep ' /memory ' /proc/mounts | cut -d' ' -f1,3").split() == [
        "400",
        "tmpfs",
        "tmpfs",
    ]
    assert "Read-only" in kubectl.fails("exec", "web", "--", "touch", "/read-only/x")
    sh(kubectl, "web", "touch /empty/x /memory/x; echo back > /host/back")
    assert (host / "back").read_text() == "back\n"


def test_volumes_follow_what_they_show(kubectl: Kubectl) -> None:
    kubectl.apply(config_map("settings", colour="red"), secret("keys", password="old"))
    down = {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}
    volumes = mounted(
        ("map", "/map", {"configMap": {"name": "settings"}}),
        ("secret", "/secret", {"secret": {"secretName": "keys"}}),
        ("down", "/down", {"downwardAPI": down}),
    )
    kubectl.apply(pod("web", **volumes))
    kubectl.wait("condition=Ready", "pod/web")
    kubectl.apply(config_map("settings", colour="blue", more="x"), secret("keys", password="new"))
    kubectl("label", "pod", "web", "tier=front")
    wanted = ["blue", "new", 'app="web"', 'tier="front"', "x"]
    deadline = time.monotonic() + 90
    while sh(kubectl, "web", "cat /map/colour; echo; cat /secret/password; echo; cat /down/labels; echo; cat /map/more").split() != wanted:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    assert status(kubectl, "web")["restartCount"] == 0


def test_too_much_memory_is_the_end(kubectl: Kubectl) -> None:
    limits = {"limits": {"memory": "24Mi"}}
    kubectl.apply(pod("hog", "sh", "-c", "sleep 0.3; tail /dev/zero", restartPolicy="Never", resources=limits))
    kubectl.until("Failed", ".status.phase", "pod/hog")
    assert status(kubectl, "hog")["state"]["terminated"]["reason"] == "OOMKilled"
    assert " OOMKilled " in kubectl("get", "pod", "hog")


def test_limits_and_classes(kubectl: Kubectl, shared: Cluster) -> None:
    both = {"cpu": "100m", "memory": "32Mi"}
    kubectl.apply(
        pod("guaranteed", resources={"limits": both, "requests": both}),
        pod("burstable", resources={"requests": {"cpu": "50m"}}),
        pod("besteffort"),
    )
    kubectl.wait("condition=Ready", "pod/guaranteed", "pod/burstable", "pod/besteffort")
    for name, parent in (("guaranteed", ""), ("burstable", "burstable/"), ("besteffort", "besteffort/")):
        assert kubectl.field(".status.qosClass", f"pod/{name}").lower() == name
        uid = kubectl.field(".metadata.uid", f"pod/{name}")
        assert cgroups.directory(f"{shared.cgroup}/kubepods/{parent}pod{uid}").is_dir()
    assert sh(kubectl, "guaranteed", cgroups.INSIDE) == cgroups.limits(32 << 20, 10000, 102)


def test_a_pod_is_resized_while_it_runs(kubectl: Kubectl) -> None:
    def resize(**amounts: str) -> tuple[str, ...]:
        container = {"name": "main", "resources": {"limits": amounts, "requests": amounts}}
        return "patch", "pod", "web", "--subresource", "resize", "-p", json.dumps({"spec": {"containers": [container]}})

    amounts = {"cpu": "100m", "memory": "32Mi"}
    kubectl.apply(pod("web", resources={"limits": amounts, "requests": amounts}))
    kubectl.wait("condition=Ready", "pod/web")
    kubectl(*resize(cpu="150m", memory="48Mi"))
    kubectl.until("150m", ".status.containerStatuses[0].resources.limits.cpu", "pod/web")
    kubectl.until("2", ".status.observedGeneration", "pod/web")
    assert sh(kubectl, "web", cgroups.INSIDE) == cgroups.limits(48 << 20, 15000, 153)
    assert status(kubectl, "web")["restartCount"] == 0
    assert "node didn't have enough allocatable resources: cpu, requested: 100000" in kubectl.fails(*resize(cpu="100", memory="48Mi"))
    assert "only cpu and memory resources are mutable" in kubectl.fails(*resize(cpu="150m", memory="48Mi", **{"ephemeral-storage": "1Gi"}))


def test_a_static_pod_is_shown_by_a_mirror(kubectl: Kubectl, shared: Cluster) -> None:
    namespace = kubectl.field(".metadata.name", "namespace", kubectl.get("serviceaccount/default")["metadata"]["namespace"])
    made = pod("static")
    made["metadata"]["namespace"] = namespace
    file = shared.data / "agent" / "manifests" / f"{namespace}.yaml"
    name = f"static-{shared.node_name}"
    try:
        file.write_text(json.dumps(made))
        kubectl.until("Running", ".status.phase", f"pod/{name}")
        before = status(kubectl, name)["containerID"]
        kubectl("delete", "pod", name)
        kubectl.until("Running", ".status.phase", f"pod/{name}")
        assert status(kubectl, name)["containerID"] == before
    finally:
        file.unlink()
    kubectl("wait", "--for=delete", f"pod/{name}", "--timeout=30s")


def test_who_a_container_runs_as(kubectl: Kubectl) -> None:
    user = pod("user", securityContext={"runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000}, **mounted(("e", "/e", {"emptyDir": {}})))
    strict = pod("strict", securityContext={"runAsNonRoot": True})
    bare = pod("bare")
    bare["spec"]["containers"][0]["securityContext"] = {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    kubectl.apply(user, strict, bare)
    kubectl.wait("condition=Ready", "pod/user", "pod/bare")
    assert sh(kubectl, "user", "id -u; id -g; id -G; stat -c %g /e").split() == ["1000", "2000", "2000", "3000", "3000"]
    assert "Read-only file system" in kubectl.fails("exec", "bare", "--", "touch", "/x")
    assert sh(kubectl, "bare", "grep CapEff /proc/self/status").split()[1].strip("0") == ""
    kubectl.until("CreateContainerConfigError", ".status.containerStatuses[0].state.waiting.reason", "pod/strict")
    assert "container has runAsNonRoot and image will run as root" in kubectl.field(
        ".status.containerStatuses[0].state.waiting.message", "pod/strict"
    )


def test_namespaces_of_the_host(kubectl: Kubectl, shared: Cluster) -> None:
    kubectl.apply(pod("host", hostNetwork=True, hostPID=True), pod("own", shareProcessNamespace=True))
    kubectl.wait("condition=Ready", "pod/host", "pod/own")
    assert kubectl.field(".status.podIP", "pod/host") == shared.ip
    assert shared.ip in sh(kubectl, "host", "ip addr show eth0")
    assert int(sh(kubectl, "host", "ls -d /proc/[0-9]* | wc -l")) > int(sh(kubectl, "own", "ls -d /proc/[0-9]* | wc -l"))
    assert "/pause" in sh(kubectl, "own", "cat /proc/1/cmdline")


def test_names_and_hosts(kubectl: Kubectl) -> None:
    aliases = [{"ip": "192.0.2.1", "hostnames": ["elsewhere"]}]
    dns = {"nameservers": ["192.0.2.53"], "searches": ["example.invalid"], "options": [{"name": "ndots", "value": "2"}]}
    kubectl.apply(pod("web", hostAliases=aliases, hostname="other"), pod("own", dnsPolicy="None", dnsConfig=dns))
    kubectl.wait("condition=Ready", "pod/web", "pod/own")
    assert sh(kubectl, "web", "hostname") == "other\n"
    hosts = sh(kubectl, "web", "cat /etc/hosts")
    assert "192.0.2.1\telsewhere" in hosts and f"{kubectl.field('.status.podIP', 'pod/web')}\tother" in hosts
    searches = f"search {kubectl.namespace}.svc.cluster.local svc.cluster.local cluster.local"
    assert sh(kubectl, "web", "cat /etc/resolv.conf") == f"{searches}\nnameserver 10.43.0.10\noptions ndots:5\n"
    assert sh(kubectl, "own", "cat /etc/resolv.conf").split() == [
        "search",
        "example.invalid",
        "nameserver",
        "192.0.2.53",
        "options",
        "ndots:2",
    ]


def test_images_that_are_not_there(kubectl: Kubectl) -> None:
    missing = "example.invalid/none:1"
    kubectl.apply(pod("never", image=missing, imagePullPolicy="Never"), pod("pull", image=missing), pod("name", image="Not a name"))
    kubectl.until("ErrImageNeverPull", ".status.containerStatuses[0].state.waiting.reason", "pod/never")
    kubectl.until("InvalidImageName", ".status.containerStatuses[0].state.waiting.reason", "pod/name")
    kubectl.until("ImagePullBackOff", ".status.containerStatuses[0].state.waiting.reason", "pod/pull")
    shown = kubectl("events", "--for", "pod/pull")
    assert f'Failed to pull image "{missing}"' in shown and "Error: ErrImagePull" in shown and "Back-off pulling image" in shown
    assert " ImagePullBackOff " in kubectl("get", "pod", "pull") or " ErrImagePull " in kubectl("get", "pod", "pull")


def test_a_command_that_is_not_there(kubectl: Kubectl) -> None:
    kubectl.apply(pod("web", "/none"))
    kubectl.until("RunContainerError", ".status.containerStatuses[0].state.waiting.reason", "pod/web", timeout=10)
    kubectl.until("1", ".status.containerStatuses[0].restartCount", "pod/web")
    assert '"/none": stat /none: no such file or directory' in kubectl("describe", "pod", "web")


def test_a_pod_that_fits_nowhere(kubectl: Kubectl) -> None:
    kubectl.apply(
        pod("big", resources={"requests": {"cpu": "1000", "memory": "1Gi"}}),
        pod("picky", nodeSelector={"disk": "fast"}),
        pod("elsewhere", nodeName="none"),
    )
    kubectl.until("Unschedulable", ".status.conditions[0].reason", "pod/big")
    kubectl.until("Unschedulable", ".status.conditions[0].reason", "pod/picky")
    assert "0/1 nodes are available: 1 Insufficient cpu." in kubectl("describe", "pod", "big")
    assert "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector." in kubectl("describe", "pod", "picky")
    node = kubectl.field(".items[0].metadata.name", "nodes")
    kubectl("label", "node", node, "disk=fast")
    kubectl.wait("condition=Ready", "pod/picky")
    kubectl("label", "node", node, "disk-")


def test_a_deadline(kubectl: Kubectl) -> None:
    kubectl.apply(pod("slow", activeDeadlineSeconds=1))
    kubectl.until("Failed", ".status.phase", "pod/slow")
    assert kubectl.field(".status.reason", "pod/slow") == "DeadlineExceeded"


def test_termination_messages(kubectl: Kubectl) -> None:
    kubectl.apply(
        pod("file", "sh", "-c", "echo why > /dev/termination-log; exit 1", restartPolicy="Never"),
        pod("logs", "sh", "-c", "echo last words; exit 1", restartPolicy="Never", terminationMessagePolicy="FallbackToLogsOnError"),
    )
    for name, message in (("file", "why\n"), ("logs", "last words\n")):
        kubectl.until("Failed", ".status.phase", f"pod/{name}")
        assert status(kubectl, name)["state"]["terminated"]["message"] == message


def test_static_facts_of_a_pod_cannot_be_changed(kubectl: Kubectl) -> None:
    kubectl.apply(pod("web"))
    kubectl.wait("condition=Ready", "pod/web")
    error = kubectl.fails(
        "patch", "pod", "web", "--type=json", "-p", '[{"op":"replace","path":"/spec/containers/0/command/0","value":"x"}]'
    )
    assert "spec: Forbidden: pod updates may not change fields other than" in error


def test_a_changed_image_restarts_the_container_in_its_place(kubectl: Kubectl) -> None:
    kubectl.apply(pod("web"))
    kubectl.wait("condition=Ready", "pod/web")
    address = kubectl.field(".status.podIP", "pod/web")
    kubectl("set", "image", "pod/web", "main=docker.io/library/web:test")
    kubectl.until("1", ".status.containerStatuses[0].restartCount", "pod/web")
    kubectl.wait("condition=Ready", "pod/web")
    assert status(kubectl, "web")["image"].endswith("web:test") and kubectl.field(".status.podIP", "pod/web") == address


def test_a_deleted_pod_leaves_nothing_on_the_node(kubectl: Kubectl, shared: Cluster) -> None:
    kubectl.apply(pod("web", **mounted(("m", "/m", {"emptyDir": {"medium": "Memory"}}))))
    kubectl.wait("condition=Ready", "pod/web")
    uid = kubectl.field(".metadata.uid", "pod/web")
    assert shared.pod_processes([uid]) and uid in Path("/proc/self/mountinfo").read_text()
    kubectl("delete", "pod", "web")
    places = [shared.data / "agent" / "kubelet" / "pods" / uid, cgroups.directory(f"{shared.cgroup}/kubepods/besteffort/pod{uid}")]
    deadline = time.monotonic() + 15
    while any(place.exists() for place in places) or uid in Path("/proc/self/mountinfo").read_text():
        assert time.monotonic() < deadline, places
        time.sleep(0.1)
