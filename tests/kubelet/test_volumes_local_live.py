"""Persistent volumes that are devices of the node, and volumes that nobody uses."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from minikube_py import pki
from minikube_py.kubelet.volumes import local
from minikube_py.types.core import Secret
from tests.kubelet.agent import Agent, status
from tests.kubelet.claims import claim, claimed, mounts, on
from tests.support.waiting import until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="this machine has no loop devices"),
]

SLEEP = {"command": ["sleep", "1000"]}
_MB = 1024 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Makes empty block devices."""
    made: list[str] = []

    def make() -> str:
        image = tmp_path / f"disk-{len(made)}"
        with image.open("wb") as file:
            file.truncate(20 * _MB)
        made.append(_run("losetup", "--find", "--show", str(image)))
        return made[-1]

    yield make
    for device in made:
        _run("losetup", "--detach", device)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _write_partitions(device: str) -> None:
    table = bytes((0, 0, 2, 0, 0x83, 0, 3, 0)) + (1).to_bytes(4, "little") + (2048).to_bytes(4, "little")
    with Path(device).open("r+b") as raw:
        raw.write(bytes(446) + table + bytes(48) + b"\x55\xaa")


async def _told(node: Agent, pod: str) -> list[dict[str, Any]]:
    """What the node tells of a pod's volumes."""
    context = node.api.keys.client_context(pki.KUBELET_CLIENT)
    context.check_hostname = False
    url = f"https://127.0.0.1:{node.options.port}/stats/summary"
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
        summary = await answer.json()
    return [told for shown in summary["pods"] if shown["podRef"]["name"] == pod for told in shown["volume"]]


def _mounted(directory: Path) -> bool:
    return f" {directory} " in Path("/proc/self/mountinfo").read_text()


async def test_a_device_is_a_file_system_that_lasts(node: Agent, disk: Callable[[], str]) -> None:
    device = disk()
    await claimed(node.client, "disk", local={"path": device}, mountOptions=["noatime"], **on("node-1"))
    user = {"runAsUser": 1000, "fsGroup": 2000}
    await node.create("first", {**SLEEP, **mounts(disk="/d")}, volumes=[claim("disk")], securityContext=user)
    first = await node.running("first")
    await node.exec(first, "sh", "-c", "echo kept > /d/file")
    line = next(line for line in (await node.exec(first, "cat", "/proc/mounts")).splitlines() if " /d " in line)
    assert line.split()[2] == "ext4" and "noatime" in line
    (told,) = await _told(node, "first")
    assert told["name"] == "disk" and told["pvcRef"] == {"name": "disk", "namespace": "default"}
    assert (
        10 * _MB < told["availableBytes"] < told["capacityBytes"] < 20 * _MB and told["inodesUsed"] + told["inodesFree"] == told["inodes"]
    )
    other = {"fsGroup": 3000}
    await node.create("second", {**SLEEP, **mounts(disk="/d")}, volumes=[claim("disk")], securityContext=other)
    second = await node.running("second")
    assert await node.exec(second, "cat", "/d/file") == "kept\n"
    assert (await node.exec(second, "stat", "-c", "%g", "/d")).strip() == "2000"
    shared = "The requested fsGroup is 3000, but the volume disk has GID 2000. The volume may not be shareable."
    assert ("AlreadyMountedVolume", shared) in await node.events("second")
    everywhere = local.shared_directory(node.options.root_dir, "disk")
    await node.delete("first")
    await node.gone("first")
    assert _mounted(everywhere) and await node.exec(second, "cat", "/d/file") == "kept\n"
    await node.restart()

    async def told_again() -> bool:
        with contextlib.suppress(aiohttp.ClientConnectionError):
            return bool(await _told(node, "second"))
        return False

    await until(told_again)
    await node.delete("second")
    await node.gone("second")
    assert not _mounted(everywhere) and not everywhere.exists()
    await node.create("third", {**SLEEP, **mounts(disk="/d")}, volumes=[claim("disk")], securityContext=other)
    third = await node.running("third")
    assert await node.exec(third, "cat", "/d/file") == "kept\n"
    assert (await node.exec(third, "stat", "-c", "%g", "/d/file")).strip() == "3000"
    await node.delete("third")
    await node.gone("third")


async def test_a_disk_with_partitions_is_never_formatted(node: Agent, disk: Callable[[], str]) -> None:
    device = disk()
    _write_partitions(device)
    before = await asyncio.to_thread(Path(device).read_bytes)
    await claimed(node.client, "disk", local={"path": device}, **on("node-1"))
    await node.create("web", {**SLEEP, **mounts(disk="/d")}, volumes=[claim("disk")])

    async def said() -> bool:
        start = f'MountVolume.MountDevice failed for volume "disk" : local: failed to mount device {device} at '
        return any(reason == "FailedMount" and message.startswith(start) for reason, message in await node.events("web"))

    await until(said)
    assert await asyncio.to_thread(Path(device).read_bytes) == before
    await node.delete("web")
    await node.gone("web")


async def test_a_raw_device_is_a_device_in_the_container(node: Agent, disk: Callable[[], str]) -> None:
    device = disk()
    link = node.node.directory / "by-id"
    link.symlink_to(device)
    await claimed(node.client, "disk", local={"path": str(link)}, volumeMode="Block", **on("node-1"))
    raw = {"volumeDevices": [{"name": "disk", "devicePath": "/dev/raw"}]}
    await node.create("writer", {**SLEEP, **raw}, volumes=[claim("disk")])
    writer = await node.running("writer")
    await node.exec(writer, "sh", "-c", "echo hello | dd of=/dev/raw conv=fsync 2>/dev/null")
    directory = node.options.pod_dir(writer.metadata.uid) / "volumeDevices" / "kubernetes.io~local-volume"
    assert (directory / "disk").readlink() == Path(device)
    succeeded = f'MapVolume.MapPodDevice succeeded for volume "disk" volumeMapPath "{directory}"'
    assert ("SuccessfulMountVolume", succeeded) in await node.events("writer")
    (told,) = await _told(node, "writer")
    assert told["capacityBytes"] == 20 * _MB and told["pvcRef"]["name"] == "disk"
    await node.create("reader", {**SLEEP, **raw}, volumes=[claim("disk", readOnly=True)])
    reader = await node.running("reader")
    assert await node.exec(reader, "dd", "if=/dev/raw", "bs=6", "count=1") == "hello\n"
    id_ = status(reader).containerID.removeprefix("containerd://")
    assert (await node.cri.exec_sync(id_, ["sh", "-c", "echo x > /dev/raw"], 10)).exit_code != 0
    await node.create("files", {**SLEEP, **mounts(disk="/d")}, volumes=[claim("disk")])

    async def said() -> bool:
        wrong = "volume disk has volumeMode Block, but is specified in volumeMounts"
        return any(reason == "FailedMount" and message.endswith(wrong) for reason, message in await node.events("files"))

    await until(said)
    for name in ("writer", "reader", "files"):
        await node.delete(name)
        await node.gone(name)
    assert not directory.exists() and Path(device).is_block_device()


async def test_a_volume_that_no_container_uses_is_not_there(node: Agent) -> None:
    volumes = [
        {"name": "s", "secret": {"secretName": "missing"}},
        {"name": "e", "emptyDir": {}},
        claim("nowhere"),
        {"name": "u", "emptyDir": {}},
    ]
    await node.create("web", {**SLEEP, **mounts(e="/e")}, volumes=volumes)
    pod = await node.running("web")
    directory = node.options.pod_dir(pod.metadata.uid) / "volumes"
    assert [path.name for path in directory.glob("*/*")] == ["e"]
    assert not any(reason == "FailedMount" for reason, _ in await node.events("web"))
    await node.client.create(Secret, {"metadata": {"name": "missing"}}, "default")
    await node.delete("web")
    await node.gone("web")
