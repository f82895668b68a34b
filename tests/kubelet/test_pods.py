"""Pods on a real containerd: from the object in the API to processes, and back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from pathlib import Path

import pytest

from minikube_py.client import Patch
from minikube_py.kubelet.logrotation import LogRotation
from minikube_py.types.core import ConfigMap, Node, Secret
from minikube_py.types.pod import Pod
from tests.kubelet.agent import NODE, Agent, agent, status
from tests.support import cgroups
from tests.support.images import BUSYBOX
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

SLEEP = {"command": ["sleep", "1000"]}


async def test_a_pod_runs_and_is_deleted_without_a_trace(node: Agent) -> None:
    await node.create("web", SLEEP)
    pod = await node.running("web")
    assert pod.status.podIP.startswith("10.214.") and pod.status.hostIP == node.node.ip
    assert pod.status.qosClass == "BestEffort" and pod.status.startTime
    conditions = {c.type: c.status for c in pod.status.conditions}
    assert conditions == dict.fromkeys(("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True")
    assert status(pod).state.running and status(pod).restartCount == 0 and status(pod).containerID.startswith("containerd://")
    cgroup = cgroups.directory(f"{node.node.cgroup}/kubepods/besteffort/pod{pod.metadata.uid}")
    assert cgroup.is_dir()
    assert {r for r, _ in await node.events("web")} >= {"Pulled", "Created", "Started"}
    hosts = await node.exec(pod, "cat", "/etc/hosts")
    assert f"{pod.status.podIP}\tweb" in hosts
    assert "search default.svc.cluster.local svc.cluster.local cluster.local" in await node.exec(pod, "cat", "/etc/resolv.conf")

    await node.delete("web")
    await node.gone("web")
    for _ in range(200):
        if not node.kubelet.pods.workers:
            break
        await asyncio.sleep(0.01)
    assert not list(await node.cri.list_containers()) and not list(await node.cri.list_pod_sandboxes())
    assert not cgroup.exists() and not node.options.pod_dir(pod.metadata.uid).exists()
    assert not node.options.pod_log_dir("default", "web", pod.metadata.uid).exists()


async def test_a_new_agent_adopts_what_runs(node: Agent) -> None:
    await node.create("web", SLEEP, {**SLEEP, "name": "other"})
    pod = await node.running("web")
    before = {c.id for c in await node.cri.list_containers()}
    await node.restart()
    await node.create("later", SLEEP)
    await node.running("later")
    assert before < {c.id for c in await node.cri.list_containers()}
    assert [s.restartCount for s in (await node.pod("web")).status.containerStatuses] == [0, 0]
    assert (await node.pod("web")).status.startTime == pod.status.startTime


async def test_what_the_api_lost_while_the_agent_was_away_is_ended(node: Agent) -> None:
    await node.create("web", SLEEP)
    pod = await node.running("web")
    await node.stop()
    await node.delete("web", grace=0)
    node._start()
    for _ in range(500):
        if not list(await node.cri.list_containers()) and not node.options.pod_dir(pod.metadata.uid).exists():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the pod's containers are still there")


async def test_init_containers_run_in_order_and_hold_the_rest_back(node: Agent) -> None:
    volume = {"name": "shared", "emptyDir": {}}
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/s"}]}
    inits = [
        {"name": "one", "command": ["sh", "-c", "echo one >> /s/order; sleep 0.2"], **mount},
        {"name": "two", "command": ["sh", "-c", "echo two >> /s/order"], **mount},
    ]
    await node.create(
        "web", {"command": ["sh", "-c", "echo main >> /s/order; exec sleep 1000"], **mount}, initContainers=inits, volumes=[volume]
    )
    pod = await node.wait("web", lambda p: p.status.initContainerStatuses and p.status.initContainerStatuses[0].state.running)
    assert pod.status.phase == "Pending"
    assert status(pod).state.waiting and status(pod).state.waiting.reason == "PodInitializing"
    initialized = next(c for c in pod.status.conditions if c.type == "Initialized")
    assert initialized.message == "containers with incomplete status: [one two]"
    pod = await node.running("web")
    assert await node.exec(pod, "cat", "/s/order") == "one\ntwo\nmain\n"
    assert [s.state.terminated.reason for s in pod.status.initContainerStatuses if s.state.terminated] == ["Completed", "Completed"]


async def test_a_failing_init_container_fails_a_pod_that_never_restarts(node: Agent) -> None:
    await node.create("web", SLEEP, initContainers=[{"name": "bad", "command": ["false"]}], restartPolicy="Never")
    pod = await node.wait("web", lambda p: p.status.phase == "Failed")
    assert status(pod, "bad").state.terminated.exitCode == 1
    assert status(pod).state.waiting.reason == "PodInitializing"


async def test_a_sidecar_starts_first_and_ends_last(node: Agent) -> None:
    volume = {"name": "shared", "emptyDir": {}}
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/s"}]}
    script = "touch /s/up; trap 'exit 0' TERM; while true; do sleep 0.1; done"
    side = {"name": "side", "restartPolicy": "Always", "command": ["sh", "-c", script], **mount,
            "startupProbe": {"exec": {"command": ["test", "-f", "/s/up"]}, "periodSeconds": 1}}  # fmt: skip
    await node.create(
        "job", {"command": ["sh", "-c", "test -f /s/up"], **mount}, initContainers=[side], volumes=[volume], restartPolicy="Never"
    )
    pod = await node.wait("job", lambda p: p.status.phase == "Succeeded")
    assert status(pod).state.terminated.exitCode == 0
    assert status(pod, "side").state.terminated is not None


@pytest.mark.parametrize(("command", "phase", "reason"), [(["true"], "Succeeded", "Completed"), (["false"], "Failed", "Error")])
async def test_a_pod_that_never_restarts_ends(node: Agent, command: list[str], phase: str, reason: str) -> None:
    await node.create("job", {"command": command}, restartPolicy="Never")
    pod = await node.wait("job", lambda p: p.status.phase == phase)
    assert status(pod).state.terminated.reason == reason
    ready = next(c for c in pod.status.conditions if c.type == "Ready")
    assert (ready.status, ready.reason) == ("False", "PodCompleted" if phase == "Succeeded" else "PodFailed")
    await node.delete("job")
    await node.gone("job")


async def test_a_crashing_container_backs_off(node: Agent) -> None:
    await node.create("bad", {"command": ["sh", "-c", "echo why > /dev/termination-log; exit 3"]})
    pod = await node.wait("bad", lambda p: p.status.containerStatuses and p.status.containerStatuses[0].restartCount == 1)
    pod = await node.wait("bad", lambda p: (w := p.status.containerStatuses[0].state.waiting) and w.reason == "CrashLoopBackOff")
    waiting, last = status(pod).state.waiting, status(pod).lastState.terminated
    assert waiting.message == f"back-off 10s restarting failed container=main pod=bad_default({pod.metadata.uid})"
    assert (last.exitCode, last.reason, last.message) == (3, "Error", "why\n")
    assert pod.status.phase == "Running" and not status(pod).ready
    await node.delete("bad")
    await node.gone("bad")


async def test_a_container_over_its_memory_limit_is_oom_killed(node: Agent) -> None:
    hog = {"command": ["sh", "-c", "sleep 0.3; tail /dev/zero"], "resources": {"limits": {"memory": "24Mi"}}}
    await node.create("hog", hog, restartPolicy="Never")
    pod = await node.wait("hog", lambda p: p.status.phase == "Failed")
    assert (status(pod).state.terminated.reason, status(pod).state.terminated.exitCode) == ("OOMKilled", 137)


async def test_limits_reach_the_cgroups(node: Agent) -> None:
    both = {"cpu": "100m", "memory": "32Mi"}
    await node.create("web", {**SLEEP, "resources": {"limits": both, "requests": both}})
    pod = await node.running("web")
    assert pod.status.qosClass == "Guaranteed"
    below = f"{node.node.cgroup}/kubepods/pod{pod.metadata.uid}"
    id = status(pod).containerID.removeprefix("containerd://")
    assert cgroups.of(below) == cgroups.of(f"{below}/{id}") == cgroups.limits(32 << 20, 10000, 102)


async def test_burstable_pods_weigh_what_they_ask_for_together(node: Agent) -> None:
    async def weighs(milli: int) -> bool:
        with contextlib.suppress(FileNotFoundError):  # the agent has only just been started
            found = cgroups.of(f"{node.node.cgroup}/kubepods/burstable").splitlines()
            return found[-1] == cgroups.limits(0, 0, milli * 1024 // 1000 or 2).splitlines()[-1]
        return False

    # nobody asks for anything, and that is little: not what the kernel gives whoever says nothing
    await until(lambda: weighs(0))
    for name, cpu in (("one", "200m"), ("two", "300m")):
        await node.create(name, {**SLEEP, "resources": {"requests": {"cpu": cpu}}})
    await until(lambda: weighs(500))
    await node.delete("one", grace=0)
    await until(lambda: weighs(300))


async def test_the_grace_period_the_hook_and_the_signal(node: Agent) -> None:
    script = "trap 'echo term >> /s/said; exit 0' TERM; while true; do sleep 0.1; done"
    container = {
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "s", "mountPath": "/s"}],
        "lifecycle": {
            "preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /s/said"]}},
            "postStart": {"exec": {"command": ["sh", "-c", "echo started >> /s/said"]}},
        },
    }
    said = node.node.directory / "said"
    said.mkdir()
    await node.create("web", container, volumes=[{"name": "s", "hostPath": {"path": str(said)}}], terminationGracePeriodSeconds=20)
    await node.running("web")
    started = time.monotonic()
    await node.delete("web")
    await node.gone("web")
    assert time.monotonic() - started < 10
    assert (said / "said").read_text() == "started\nhook\nterm\n"
    assert ("Killing", "Stopping container main") in await node.events("web")


async def test_a_deadline_ends_a_pod(node: Agent) -> None:
    await node.create("slow", SLEEP, activeDeadlineSeconds=1)
    pod = await node.wait("slow", lambda p: p.status.phase == "Failed")
    assert (pod.status.reason, pod.status.message) == (
        "DeadlineExceeded",
        "Pod was active on the node longer than the specified deadline",
    )


async def test_a_missing_image_is_said_to_be_missing(node: Agent) -> None:
    await node.create("none", {**SLEEP, "image": "example.invalid/none:1", "imagePullPolicy": "Never"})
    pod = await node.wait("none", _held)
    waiting = status(pod).state.waiting
    assert waiting.reason == "ErrImageNeverPull"
    assert waiting.message == 'Container image "example.invalid/none:1" is not present with pull policy of Never'
    await node.delete("none")
    await node.gone("none")


async def test_a_changed_image_restarts_the_container(node: Agent) -> None:
    from tests.support.images import WEB

    await node.create("web", SLEEP)
    await node.running("web")
    await node.client.patch(Pod, "web", {"spec": {"containers": [{"name": "main", "image": WEB}]}}, "default", kind=Patch.STRATEGIC)
    pod = await node.wait("web", lambda p: status(p).restartCount == 1 and status(p).ready)
    assert status(pod).image == WEB
    assert ("Killing", "Container main definition changed, will be restarted") in await node.events("web")


async def test_the_environment(node: Agent) -> None:
    await node.client.create(ConfigMap, _object("ConfigMap", "conf", data={"A": "1", "B": "2"}), "default")
    await node.client.create(Secret, _object("Secret", "keys", data={"K": base64.b64encode(b"s3").decode()}), "default")
    container = {
        "command": ["sh", "-c", "env; sleep 1000"],
        "args": [],
        "envFrom": [{"configMapRef": {"name": "conf"}, "prefix": "C_"}],
        "env": [
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "K"}}},
            {"name": "BOTH", "value": "$(C_A)-$(KEY)-$(NONE)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        ],
        "resources": {"limits": {"memory": "64Mi"}},
    }
    await node.create("web", container)
    pod = await node.running("web")
    found = dict(line.split("=", 1) for line in node.log(pod).splitlines())
    wanted = {"C_A": "1", "C_B": "2", "KEY": "s3", "BOTH": "1-s3-$(NONE)", "IP": pod.status.podIP, "ME": "web", "MEM": "64"}
    assert wanted.items() <= found.items()


async def test_a_missing_reference_holds_the_container_until_it_is_there(node: Agent) -> None:
    await node.create("web", {**SLEEP, "envFrom": [{"configMapRef": {"name": "late"}}]})
    pod = await node.wait("web", _held)
    assert status(pod).state.waiting.reason == "CreateContainerConfigError"
    assert status(pod).state.waiting.message == 'configmap "late" not found'
    began = time.monotonic()
    await node.client.create(ConfigMap, _object("ConfigMap", "late", data={"A": "1"}), "default")
    await node.running("web")
    assert time.monotonic() - began < 5


async def test_the_node_is_registered_and_ready(node: Agent) -> None:
    for _ in range(200):
        found = [
            n for n in (await node.client.list(Node)).items if any(c.type == "Ready" and c.status == "True" for c in n.status.conditions)
        ]
        if found:
            break
        await asyncio.sleep(0.02)
    assert found[0].metadata.labels["kubernetes.io/hostname"] == NODE
    assert found[0].status.capacity["pods"] == "110"
    await node.client.delete(Node, NODE)
    for _ in range(200):
        if any(n.metadata.uid != found[0].metadata.uid for n in (await node.client.list(Node)).items):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the node was not registered again")


def _held(pod: Pod) -> bool:
    waiting = pod.status.containerStatuses[0].state.waiting if pod.status.containerStatuses else None
    return waiting is not None and waiting.reason != "ContainerCreating"


def _ready(node: Node) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)


def _object(kind: str, name: str, **more: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **more}


async def test_an_image_that_cannot_be_pulled_backs_off(node: Agent) -> None:
    await node.create("none", {**SLEEP, "image": "127.0.0.1:1/none:1"})
    await node.wait("none", lambda p: _held(p) and status(p).state.waiting.reason == "ErrImagePull")
    pod = await node.wait("none", lambda p: _held(p) and status(p).state.waiting.reason == "ImagePullBackOff")
    assert status(pod).state.waiting.message.startswith('Back-off pulling image "127.0.0.1:1/none:1": ErrImagePull: ')
    reasons = [r for r, _ in await node.events("none")]
    assert {"Pulling", "Failed", "BackOff"} <= set(reasons)
    await node.delete("none")
    await node.gone("none")


async def test_a_log_over_its_size_is_rotated_and_goes_on(tmp_path: Path) -> None:
    async with agent(tmp_path, container_log_max_size=2000, container_log_max_files=3) as node:
        script = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.005; done"
        await node.create("web", {"command": ["sh", "-c", script]})
        pod = await node.running("web")
        rotation = LogRotation(node.kubelet.tools, node.kubelet.pods)
        directory = node.options.pod_log_dir("default", "web", pod.metadata.uid) / "main"
        for _ in range(4):
            await until(lambda: (directory / "0.log").exists() and (directory / "0.log").stat().st_size > 2000)
            await rotation.rotate_due()
            await asyncio.sleep(1.05)  # rotated files are named by the second
        files = sorted(p.name for p in directory.iterdir())
        assert len(files) == 3 and files[0] == "0.log" and files[1].endswith(".gz") and not files[2].endswith(".gz")
        assert node.log(pod).startswith("line ")


async def test_the_dead_sandbox_of_a_living_pod_is_replaced(node: Agent) -> None:
    await node.create("web", SLEEP)
    pod = await node.running("web")
    (sandbox,) = await node.cri.list_pod_sandboxes()
    await node.cri.stop_pod_sandbox(sandbox.id)
    later = await node.wait("web", lambda p: p.status.podIP != pod.status.podIP and status(p).ready, 30)
    assert later.metadata.uid == pod.metadata.uid and status(later).restartCount >= 1
    assert any(r == "SandboxChanged" for r, _ in await node.events("web"))


async def test_a_force_deleted_pod_leaves_nothing(node: Agent) -> None:
    await node.create("web", {"command": ["sh", "-c", "trap '' TERM; sleep 1000"]}, terminationGracePeriodSeconds=600)
    await node.running("web")
    await node.delete("web")
    await node.wait("web", lambda p: p.metadata.deletionTimestamp)
    await node.delete("web", grace=0)
    await node.gone("web")
    await until(lambda: not node.kubelet.pods.workers, 15)
    assert not list(await node.cri.list_pod_sandboxes())


async def test_one_container_s_end_restarts_the_whole_pod_in_its_sandbox(node: Agent) -> None:
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]
    volume = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    script = "if [ $(wc -l < /v/runs) -lt 2 ]; then sleep 0.3; exit 88; fi; sleep 1000"
    await node.create(
        "all",
        {"command": ["sh", "-c", script], "restartPolicy": "Never", "restartPolicyRules": rules, **volume},
        {"name": "other", **SLEEP},
        initContainers=[{"name": "count", "command": ["sh", "-c", "echo x >> /v/runs"], **volume}],
        volumes=[{"name": "v", "emptyDir": {}}],
        restartPolicy="Never",
    )
    pod = await node.wait(
        "all", lambda p: all(s.restartCount == 1 and s.ready for s in p.status.containerStatuses) and p.status.phase == "Running"
    )
    assert await node.exec(pod, "cat", "/v/runs") == "x\nx\n"
    assert status(pod).lastState.terminated.exitCode == 88 and status(pod, "count").restartCount == 1
    assert len(await node.cri.list_pod_sandboxes()) == 1


async def test_a_sidecar_s_end_restarts_the_whole_pod(node: Agent) -> None:
    rules = [{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}}]
    script = "if [ -e /v/was ]; then sleep 1000; fi; touch /v/was; sleep 1; exit 88"
    volume = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    await node.create(
        "all",
        SLEEP,
        initContainers=[
            {"name": "first", "command": ["true"]},
            {"name": "cause", "command": ["sh", "-c", script], "restartPolicy": "Always", "restartPolicyRules": rules, **volume},
        ],
        volumes=[{"name": "v", "emptyDir": {}}],
        restartPolicy="Never",
        terminationGracePeriodSeconds=1,
    )
    names = ("first", "cause", "main")
    pod = await node.wait("all", lambda p: p.status.containerStatuses and all(status(p, name).restartCount == 1 for name in names), 30)
    assert pod.status.phase == "Running" and status(pod, "cause").lastState.terminated.exitCode == 88


async def test_what_a_pod_writes_becomes_its_environment_and_its_name(node: Agent) -> None:
    volume = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    ref = {"fileKeyRef": {"volumeName": "v", "path": "made/env", "key": "WORD"}}
    await node.create(
        "files",
        {"command": ["sh", "-c", "echo $WORD $(hostname)"], "env": [{"name": "WORD", "valueFrom": ref}]},
        initContainers=[{"name": "make", "command": ["sh", "-c", "mkdir /v/made; echo \"WORD='two words'\" > /v/made/env"], **volume}],
        volumes=[{"name": "v", "emptyDir": {}}],
        restartPolicy="Never",
        hostnameOverride="other.name.example",
    )
    pod = await node.wait("files", lambda p: p.status.phase == "Succeeded")
    assert node.log(pod) == "two words other.name.example\n"


async def test_ephemeral_containers_see_their_target(node: Agent) -> None:
    await node.create("web", SLEEP)
    await node.running("web")
    debug = {
        "name": "debug",
        "image": BUSYBOX,
        "command": ["sh", "-c", "ps -o args | grep '^sleep'; sleep 1000"],
        "targetContainerName": "main",
    }
    body = {"spec": {"ephemeralContainers": [debug]}}
    await node.client.patch(Pod, "web", body, "default", kind=Patch.STRATEGIC, subresource="ephemeralcontainers")
    pod = await node.wait("web", lambda p: p.status.ephemeralContainerStatuses and p.status.ephemeralContainerStatuses[0].state.running)
    await until(lambda: "sleep 1000" in node.log(pod, "debug"), 5)
    assert status(pod).restartCount == 0 and pod.status.phase == "Running"
