"""Volumes as containers see them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minikube_py.client import Client
from minikube_py.cri.archive import ImageConfig, Layer, image_archive
from minikube_py.cri.images import import_archive
from minikube_py.kubelet import claimstats
from minikube_py.kubelet.metrics import FAMILIES
from minikube_py.types.core import ConfigMap, PersistentVolumeClaim, Secret
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume
from tests.kubelet.agent import Agent, status
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

SLEEP = {"command": ["sleep", "1000"]}


def _mounts(**paths: str) -> dict[str, Any]:
    return {"volumeMounts": [{"name": name, "mountPath": path} for name, path in paths.items()]}


async def test_config_maps_and_secrets_are_files_that_follow_their_objects(node: Agent) -> None:
    await node.client.create(ConfigMap, {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v1", "other": "x"}}, "default")
    data = {"s": base64.b64encode(b"hidden").decode()}
    await node.client.create(Secret, {"kind": "Secret", "metadata": {"name": "s"}, "data": data}, "default")
    volumes = [
        {"name": "c", "configMap": {"name": "c", "items": [{"key": "k", "path": "deep/k", "mode": 0o400}]}},
        {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o440}},
    ]
    await node.create("web", {**SLEEP, **_mounts(c="/c", s="/s")}, volumes=volumes)
    pod = await node.running("web")
    assert await node.exec(pod, "cat", "/c/deep/k", "/s/s") == "v1hidden"
    assert (await node.exec(pod, "stat", "-L", "-c", "%a", "/c/deep/k", "/s/s")).split() == ["400", "440"]
    assert "tmpfs /s " in await node.exec(pod, "cat", "/proc/mounts")
    await node.client.patch(ConfigMap, "c", {"data": {"k": "v2"}}, "default")

    async def updated() -> bool:
        return await node.exec(pod, "cat", "/c/deep/k") == "v2"

    await until(updated)
    assert status(await node.pod("web")).restartCount == 0


async def test_a_missing_config_map_holds_the_pod_and_is_said(node: Agent) -> None:
    await node.create("web", {**SLEEP, **_mounts(c="/c")}, volumes=[{"name": "c", "configMap": {"name": "late"}}])

    async def said() -> bool:
        return ("FailedMount", 'MountVolume.SetUp failed for volume "c" : configmap "late" not found') in await node.events("web")

    await until(said)
    assert status(await node.pod("web")).state.waiting.reason == "ContainerCreating"
    await node.client.create(ConfigMap, {"kind": "ConfigMap", "metadata": {"name": "late"}, "data": {"k": "v"}}, "default")
    await node.running("web")


async def test_a_projected_volume_has_a_token_for_this_pod(node: Agent) -> None:
    await node.client.create(ConfigMap, {"kind": "ConfigMap", "metadata": {"name": "root"}, "data": {"ca.crt": "CA"}}, "default")
    projected = {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
            {"configMap": {"name": "root"}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]
    }
    await node.create("web", {**SLEEP, **_mounts(p="/p")}, volumes=[{"name": "p", "projected": projected}], serviceAccountName="default")
    pod = await node.running("web")
    assert await node.exec(pod, "cat", "/p/ca.crt", "/p/namespace") == "CAdefault"
    token = await node.exec(pod, "cat", "/p/token")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims["sub"] == "system:serviceaccount:default:default"
    assert claims["kubernetes.io"]["pod"] == {"name": "web", "uid": pod.metadata.uid}


async def test_empty_dirs_on_disk_and_in_memory_belong_to_the_group(node: Agent) -> None:
    volumes = [{"name": "d", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
    user = {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}
    await node.create("web", {**SLEEP, **_mounts(d="/d", m="/m")}, volumes=volumes, securityContext=user)
    pod = await node.running("web")
    assert (await node.exec(pod, "id", "-G")).split() == ["1000", "2000"]
    await node.exec(pod, "sh", "-c", "echo x > /d/file; echo x > /m/file")
    assert (await node.exec(pod, "stat", "-c", "%g", "/d/file", "/m/file")).split() == ["2000", "2000"]
    assert "tmpfs /m " in await node.exec(pod, "cat", "/proc/mounts")
    assert (await node.exec(pod, "stat", "-c", "%a", "/d", "/m")).split() == ["2777", "3777"]
    directory = node.options.pod_dir(pod.metadata.uid)
    await node.delete("web")
    await node.gone("web")
    assert not (directory / "volumes").exists()


async def test_host_paths_are_checked_by_their_type(node: Agent) -> None:
    there = node.node.directory / "there"
    there.mkdir()
    (there / "file").write_text("seen")
    volumes = [
        {"name": "ok", "hostPath": {"path": str(there), "type": "Directory"}},
        {"name": "new", "hostPath": {"path": str(there / "made"), "type": "DirectoryOrCreate"}},
    ]
    await node.create("good", {**SLEEP, **_mounts(ok="/ok", new="/new")}, volumes=volumes)
    assert await node.exec(await node.running("good"), "cat", "/ok/file") == "seen"
    assert (there / "made").is_dir()
    wrong = str(there / "none")
    await node.create("bad", {**SLEEP, **_mounts(v="/v")}, volumes=[{"name": "v", "hostPath": {"path": wrong, "type": "File"}}])

    async def said() -> bool:
        message = f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {wrong} is not a file'
        return ("FailedMount", message) in await node.events("bad")

    await until(said)


async def test_a_sub_path_does_not_follow_a_link_out_of_its_volume(node: Agent) -> None:
    volume = node.node.directory / "volume"
    (volume / "inside").mkdir(parents=True)
    (volume / "inside" / "file").write_text("mine")
    (volume / "link").symlink_to("inside")
    (volume / "escape").symlink_to("/etc")
    volumes = [{"name": "v", "hostPath": {"path": str(volume)}}]
    good = {"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "link"}, {"name": "v", "mountPath": "/b", "subPath": "new/deep"}]}
    await node.create("good", {**SLEEP, **good}, volumes=volumes)
    pod = await node.running("good")
    assert await node.exec(pod, "cat", "/a/file") == "mine"
    assert (volume / "new" / "deep").is_dir()
    bad = {"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "escape/passwd"}]}
    await node.create("bad", {**SLEEP, **bad}, volumes=volumes)
    pod = await node.wait("bad", lambda p: p.status.containerStatuses and p.status.containerStatuses[0].state.waiting.message)
    assert status(pod).state.waiting.reason == "CreateContainerConfigError"
    assert status(pod).state.waiting.message == 'failed to prepare subPath for volumeMount "v" of container "main"'
    for name in ("good", "bad"):
        await node.delete(name)
        await node.gone(name)
    assert (volume / "inside" / "file").read_text() == "mine"


async def test_downward_files_follow_the_labels(node: Agent) -> None:
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    volumes = [{"name": "d", "downwardAPI": {"items": items}}]
    await node.create("web", {**SLEEP, **_mounts(d="/d")}, volumes=volumes, metadata={"labels": {"a": "1"}})
    pod = await node.running("web")
    assert await node.exec(pod, "cat", "/d/labels") == 'a="1"'
    await node.client.patch(Pod, "web", {"metadata": {"labels": {"b": "2"}}}, "default")

    async def updated() -> bool:
        return await node.exec(pod, "cat", "/d/labels") == 'a="1"\nb="2"'

    await until(updated)


async def test_nothing_stays_mounted(node: Agent) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    volumes = [{"name": "m", "emptyDir": {"medium": "Memory"}}]
    mounts = {"volumeMounts": [{"name": "m", "mountPath": "/m"}, {"name": "m", "mountPath": "/n", "subPath": "n"}]}
    await node.create("web", {**SLEEP, **mounts}, volumes=volumes)
    pod = await node.running("web")
    directory = str(node.options.pod_dir(pod.metadata.uid))
    assert Path("/proc/self/mountinfo").read_text().count(directory) == 2 and directory not in before
    await node.delete("web")
    await node.gone("web")
    assert directory not in Path("/proc/self/mountinfo").read_text()
    assert not os.path.exists(directory + "/volumes")


async def _claimed(client: Client, name: str, **source: Any) -> None:
    """A persistent volume and a claim on it, bound as the binder would bind them."""
    size, modes = {"storage": "1Gi"}, ["ReadWriteOnce"]
    spec = {"accessModes": modes, "resources": {"requests": size}, "volumeName": name, "storageClassName": ""}
    claim = await client.create(PersistentVolumeClaim, {"metadata": {"name": name}, "spec": spec}, "default")
    reference = {"kind": "PersistentVolumeClaim", "namespace": "default", "name": name, "uid": claim.metadata.uid}
    await client.create(
        PersistentVolume, {"metadata": {"name": name}, "spec": {"capacity": size, "accessModes": modes, "claimRef": reference, **source}}
    )
    await client.patch(PersistentVolumeClaim, name, {"status": {"phase": "Bound"}}, "default", subresource="status")


def _on(hostname: str) -> dict[str, Any]:
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]}
    return {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}


def _claim(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "persistentVolumeClaim": {"claimName": name, **more}}


async def test_persistent_volumes_of_the_node(node: Agent) -> None:
    data = node.node.directory / "disk"
    data.mkdir()
    await _claimed(node.client, "local", local={"path": str(data)}, **_on("node-1"))
    await _claimed(node.client, "host", hostPath={"path": str(data / "made"), "type": "DirectoryOrCreate"})
    await _claimed(node.client, "elsewhere", local={"path": str(data)}, **_on("node-2"))
    user = {"runAsUser": 1000, "fsGroup": 2000}
    volumes = [_claim("local"), _claim("host")]
    await node.create("web", {**SLEEP, **_mounts(local="/l", host="/h")}, volumes=volumes, securityContext=user)
    pod = await node.running("web")
    await node.exec(pod, "sh", "-c", "echo kept > /l/file")
    assert (data / "file").read_text() == "kept\n" and (data / "file").stat().st_gid == 2000 and (data / "made").is_dir()
    disk, readings = os.statvfs(data), await claimstats.read(node.kubelet.tools, [pod])
    (reading,) = readings[pod.metadata.uid]
    assert (reading.volume, reading.claim, reading.found.capacity) == ("local", "local", disk.f_blocks * disk.f_frsize)
    shown = {name: value for name, whom, value in claimstats.gauges([reading]) if whom == ("default", "local")}
    assert shown.keys() == {name for name in FAMILIES if name.startswith("kubelet_volume_stats_")}
    assert 0 < shown["kubelet_volume_stats_available_bytes"] < shown["kubelet_volume_stats_capacity_bytes"]
    await node.create("reader", {**SLEEP, **_mounts(local="/l")}, volumes=[_claim("local", readOnly=True)])
    assert "read-only" in (await node.cri.exec_sync(_id(await node.running("reader")), ["touch", "/l/x"], 10)).stderr.decode().lower()
    await node.create("astray", {**SLEEP, **_mounts(elsewhere="/l")}, volumes=[_claim("elsewhere")])
    unbound = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    await node.client.create(PersistentVolumeClaim, {"metadata": {"name": "unbound"}, "spec": unbound}, "default")
    await node.create("early", {**SLEEP, **_mounts(unbound="/l")}, volumes=[_claim("unbound")])
    expected = {"astray": "no matching NodeSelectorTerms", "early": "error processing PVC default/unbound: PVC is not bound"}
    for name, problem in expected.items():

        async def said(name: str = name, problem: str = problem) -> bool:
            return any(reason == "FailedMount" and message.endswith(problem) for reason, message in await node.events(name))

        await until(said)
    for name in ("web", "reader", "astray", "early"):
        await node.delete(name)
        await node.gone(name)
    assert (data / "file").read_text() == "kept\n"


def _id(pod: Pod) -> str:
    return status(pod).containerID.removeprefix("containerd://")


async def _import(node: Agent, name: str) -> None:
    layer = Layer()
    layer.directory("models")
    layer.file("models/weights", b"0.5")
    archive = node.node.directory / "image.tar"
    archive.write_bytes(image_archive(name, layer.finish(), ImageConfig()))
    await import_archive(node.cri, archive)


def _views(node: Agent) -> str:
    command = ["ctr", "--address", str(node.node.socket), "--namespace", "k8s.io", "snapshots", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    return "\n".join(line for line in listed.splitlines() if "minikube-py" in line)


async def test_images_are_volumes(node: Agent) -> None:
    await _import(node, "models:1")
    volumes = [
        {"name": "m", "image": {"reference": "models:1", "pullPolicy": "IfNotPresent"}},
        {"name": "b", "image": {"reference": "docker.io/library/busybox:test", "pullPolicy": "Never"}},
    ]
    part = {"name": "m", "mountPath": "/part", "subPath": "models"}
    both = {"volumeMounts": [{"name": "m", "mountPath": "/m"}, {"name": "b", "mountPath": "/b"}, part]}
    await node.create("web", {**SLEEP, **both}, {"name": "other", **SLEEP, **_mounts(m="/m")}, volumes=volumes)
    pod = await node.running("web")
    assert await node.exec(pod, "cat", "/m/models/weights", "/part/weights") == "0.50.5"
    assert await node.exec(pod, "cat", "/m/models/weights", container="other") == "0.5"
    assert "busybox" in await node.exec(pod, "ls", "/b/bin")
    for path in ("/m/new", "/part/new", "/b/new"):
        assert "read-only" in (await node.cri.exec_sync(_id(pod), ["touch", path], 10)).stderr.decode().lower()
    file = {"volumeMounts": [{"name": "m", "mountPath": "/m", "subPath": "models/weights"}]}
    await node.create("bad", {**SLEEP, **file}, volumes=volumes)
    pod = await node.wait("bad", lambda p: p.status.containerStatuses and p.status.containerStatuses[0].state.waiting.message)
    waiting = status(pod).state.waiting
    assert waiting.reason == "CreateContainerError" and waiting.message.startswith("ImageVolumeMountFailed: ")
    volumes = [{"name": "n", "image": {"reference": "no:1", "pullPolicy": "Never"}}]
    await node.create("absent", {**SLEEP, **_mounts(n="/n")}, volumes=volumes)
    pod = await node.wait("absent", lambda p: p.status.containerStatuses and p.status.containerStatuses[0].state.waiting.message)
    assert status(pod).state.waiting.reason == "ErrImageNeverPull"
    assert len(_views(node).splitlines()) == 3
    await node.cri.remove_image("models:1")
    for name in ("web", "bad", "absent"):
        await node.delete(name)
        await node.gone(name)
    assert _views(node) == ""


async def test_what_an_ended_agent_has_left_is_cleared_away_and_users_data_is_not(node: Agent) -> None:
    """The pod is force-deleted while there is no agent, which then finds mounts of every kind."""
    data = node.node.directory / "disk"
    (data / "part").mkdir(parents=True)
    (data / "part" / "file").write_text("irreplaceable")
    await _import(node, "models:2")
    await _claimed(node.client, "local", local={"path": str(data)}, **_on("node-1"))
    volumes = [
        _claim("local"),
        {"name": "host", "hostPath": {"path": str(data)}},
        {"name": "m", "image": {"reference": "models:2", "pullPolicy": "Never"}},
        {"name": "t", "emptyDir": {"medium": "Memory"}},
    ]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("local", "host", "m", "t")]
    mounts += [{"name": "local", "mountPath": "/a", "subPath": "part"}, {"name": "host", "mountPath": "/b", "subPath": "part"}]
    await node.create("web", {**SLEEP, "volumeMounts": mounts}, volumes=volumes)
    directory = node.options.pod_dir((await node.running("web")).metadata.uid)
    assert Path("/proc/self/mountinfo").read_text().count(str(directory)) == 5
    await node.stop()
    await node.delete("web", grace=0)
    await node.restart()

    async def cleared() -> bool:
        return not directory.exists()

    await until(cleared)
    assert str(directory) not in Path("/proc/self/mountinfo").read_text() and _views(node) == ""
    assert (data / "part" / "file").read_text() == "irreplaceable"


async def test_volumes_of_objects_are_read_only_and_hold_what_is_mounted_in_them(node: Agent) -> None:
    await node.client.create(ConfigMap, {"metadata": {"name": "c"}, "data": {"k": "v"}, "binaryData": {"b": "AP8="}}, "default")
    await node.client.create(Secret, {"metadata": {"name": "s"}, "stringData": {"k": "hidden"}}, "default")
    volumes = [{"name": "c", "configMap": {"name": "c"}}, {"name": "s", "secret": {"secretName": "s", "defaultMode": 0o400}}]
    nested = {"name": "s", "mountPath": "/c/inner/s"}
    whole = {"volumeMounts": [{"name": "c", "mountPath": "/c"}, nested]}
    await node.create("web", {**SLEEP, **whole}, volumes=volumes, securityContext={"fsGroup": 2000, "runAsUser": 1000})
    pod = await node.running("web")
    assert await node.exec(pod, "cat", "/c/k", "/c/inner/s/k") == "vhidden"
    assert (await node.exec(pod, "stat", "-L", "-c", "%a:%g", "/c/k", "/c/inner/s/k")).split() == ["644:2000", "440:2000"]
    assert (await node.exec(pod, "od", "-An", "-tx1", "/c/b")).split() == ["00", "ff"]
    assert "read-only" in (await node.cri.exec_sync(_id(pod), ["touch", "/c/new"], 10)).stderr.decode().lower()


async def test_a_sub_path_from_an_annotation_is_looked_at_again_when_that_changes(node: Agent) -> None:
    source = {"fieldRef": {"fieldPath": "metadata.annotations['part']"}}
    container = {
        **SLEEP,
        "env": [{"name": "PART", "valueFrom": source}],
        "volumeMounts": [{"name": "d", "mountPath": "/part", "subPathExpr": "$(PART)"}, {"name": "d", "mountPath": "/d"}],
    }
    volumes = [{"name": "d", "emptyDir": {}}]
    await node.create("web", container, volumes=volumes, metadata={"annotations": {"part": "/tmp"}})
    for part, problem in {
        "/tmp": "error SubPath `/tmp` must not be an absolute path",
        "../up": "unable to provision SubPath `../up`: must not contain '..'",
    }.items():
        await node.client.patch(Pod, "web", {"metadata": {"annotations": {"part": part}}}, "default")

        def waits(pod: Pod, problem: str = problem) -> bool:
            waiting = status(pod).state.waiting if pod.status.containerStatuses else None
            return waiting is not None and (waiting.reason, waiting.message) == ("CreateContainerConfigError", problem)

        await node.wait("web", waits, timeout=5)
    await node.client.patch(Pod, "web", {"metadata": {"annotations": {"part": "mine/now"}}}, "default")
    pod = await node.wait("web", lambda p: p.status.phase == "Running", timeout=5)
    await node.exec(pod, "touch", "/part/file")
    assert await node.exec(pod, "ls", "/d/mine/now") == "file\n"
