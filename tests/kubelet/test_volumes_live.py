"""Volumes as containers see them."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from minikube_py.types.core import ConfigMap, Secret
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
    assert "not within volume path" in status(pod).state.waiting.message
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
    from minikube_py.types.pod import Pod

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
