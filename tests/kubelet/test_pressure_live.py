"""A node that runs short of disk, of memory or of images' space, on a real containerd; only the thresholds are near."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import force_setattr

from minikube_py.aio import Supervisor
from minikube_py.cri.archive import ImageConfig, Layer, image_archive
from minikube_py.cri.images import import_archive
from minikube_py.kubelet import cgroups, machine
from minikube_py.kubelet.measure import Measure
from minikube_py.meta import thresholds
from minikube_py.nodesettings import NodeSettings
from minikube_py.types.core import Node
from minikube_py.types.pod import Pod
from tests.kubelet.agent import NODE, Agent, agent, status
from tests.support.waiting import until

pytestmark = pytest.mark.cluster

MIB = 1 << 20
SLEEP = {"command": ["sleep", "1000"]}


def writes(megabytes: int, path: str) -> dict[str, Any]:
    return {"command": ["sh", "-c", f"dd if=/dev/zero of={path} bs=1M count={megabytes}; sleep 1000"]}


@contextmanager
def small_disk(directory: Path, size: int) -> Iterator[Path]:
    """A file system of so many MiB, for a node's pods."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "small", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


async def conditions(node: Agent) -> dict[str, str]:
    return {c.type: c.status for c in (await node.client.get(Node, NODE)).status.conditions}


def evicted(pod: Pod) -> bool:
    return pod.status.phase == "Failed" and pod.status.reason == "Evicted"


async def test_local_storage_above_its_limit_and_a_full_disk_end_pods(tmp_path: Path) -> None:
    hard = thresholds.parse(["nodefs.available<40Mi"])
    settings = NodeSettings(eviction=hard, eviction_pressure_transition_period=4.0)
    with small_disk(tmp_path / "disk", 100) as disk:
        async with agent(tmp_path, root_dir=disk, housekeeping_seconds=0.2, settings=settings) as node:
            volumes = [{"name": "data", "emptyDir": {}}]
            mounted = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
            small = [{"name": "data", "emptyDir": {"sizeLimit": "2Mi"}}]
            await node.create("neighbour", SLEEP)
            await node.create("over", {**writes(4, "/data/f"), **mounted}, volumes=small)
            await node.create("logger", {"command": ["sh", "-c", "yes 0123456789 | head -c 3000000; sleep 1000"]})
            over = await node.wait("over", evicted)
            assert over.status.message == 'Usage of EmptyDir volume "data" exceeds the limit "2Mi". '
            assert status(over).state.terminated
            limits = {"resources": {"limits": {"ephemeral-storage": "1Mi"}}}
            await node.create("layer", {"command": ["sh", "-c", "dd if=/dev/zero of=/f bs=1M count=5; sleep 1000"], **limits})
            assert await conditions(node) == {"Ready": "True", **dict.fromkeys(("MemoryPressure", "DiskPressure", "PIDPressure"), "False")}

            await node.create("greedy", {**writes(70, "/data/f"), **mounted}, volumes=volumes)
            greedy = await node.wait("greedy", evicted)
            assert greedy.status.message.startswith("The node was low on resource: ephemeral-storage. Threshold quantity: 40Mi")
            disrupted = next(c for c in greedy.status.conditions if c.type == "DisruptionTarget")
            assert (disrupted.status, disrupted.reason) == ("True", "TerminationByKubelet")
            assert not (node.options.pod_dir(greedy.metadata.uid) / "volumes").exists()
            said = [(r, m) for r, m in await node.events("greedy") if r == "Evicted"]
            assert said == [("Evicted", greedy.status.message)]

            # for the transition period nobody is let in
            await node.create("late", SLEEP)
            late = await node.wait("late", evicted)
            assert late.status.message == "Pod was rejected: The node had condition: [DiskPressure]. "

            async def pressed(status: str) -> bool:
                return (await conditions(node))["DiskPressure"] == status

            await until(lambda: pressed("True"), 5)
            await until(lambda: pressed("False"), 20)
            await node.create("after", SLEEP)
            await node.running("after")
            assert (await node.pod("neighbour")).status.phase == "Running"
            # containerd measures writable layers every ten seconds
            layer = await node.wait("layer", evicted, timeout=40)
            assert layer.status.message == "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "


async def test_memory_is_won_back_from_the_pod_that_uses_more_than_it_asked_for(tmp_path: Path) -> None:
    async with agent(tmp_path, housekeeping_seconds=0.2, settings=NodeSettings(eviction=())) as node:
        asks = {"resources": {"requests": {"memory": "300Mi"}}}
        eats = ["sh", "-c", "dd if=/dev/zero of=/dev/shm/f bs=1M count=60; sleep 1000"]
        await node.create("modest", {"command": eats, **asks})
        await node.create("greedy", {"command": eats, "resources": {"requests": {"memory": "10Mi"}}})
        await node.create("critical", {"command": eats}, priority=2_000_000_000)
        uid = (await node.running("greedy")).metadata.uid
        await node.running("modest")
        await node.running("critical")
        made = cgroups.Cgroups(cgroups.find(), node.options.cgroup_root)
        await until(lambda: made.usage("Burstable", uid)[0] > 50 * MIB, 10)
        assert made.usage("Burstable", uid)[1] >= 2
        left = (await Measure(node.cri, made, node.options).node())[thresholds.MEMORY]
        assert 0 < left.available < left.capacity
        # what is left now is too little, and what the greedy one gives back is enough
        settings = NodeSettings(
            eviction=thresholds.parse([f"memory.available<{left.available + 20 * MIB}"]), eviction_pressure_transition_period=2.0
        )
        force_setattr(node.options, "settings", settings)
        greedy = await node.wait("greedy", evicted)
        assert greedy.status.message.startswith("The node was low on resource: memory. Threshold quantity: ")
        assert "Container main was using " in greedy.status.message and ", request is 10Mi, has larger" in greedy.status.message
        force_setattr(node.options, "settings", NodeSettings(eviction=()))
        assert [r for r, _ in await node.events(NODE)].count("EvictionThresholdMet") >= 1
        assert "NodeHasInsufficientMemory" in [r for r, _ in await node.events(NODE)]
        assert (await node.pod("modest")).status.phase == (await node.pod("critical")).status.phase == "Running"


async def test_pods_go_before_they_reach_their_common_limit(tmp_path: Path) -> None:
    limit = 300 * MIB
    reserved = (("memory", str(machine.meminfo()["MemTotal"] - limit)),)
    settings = NodeSettings(eviction=thresholds.parse(["memory.available<100Mi"]), kube_reserved=reserved)
    async with agent(tmp_path, housekeeping_seconds=0.2, settings=settings) as node:
        await node.create("modest", {**SLEEP, "resources": {"requests": {"memory": "50Mi"}}})
        await node.running("modest")
        made = cgroups.Cgroups(cgroups.find(), node.options.cgroup_root)
        assert made.all_pods().limit == limit
        await node.create(
            "greedy",
            {**writes(220, "/scratch/f"), "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]},
            volumes=[{"name": "scratch", "emptyDir": {"medium": "Memory"}}],
        )
        greedy = await node.wait("greedy", evicted)
        assert greedy.status.message.startswith("The node was low on resource: memory. Threshold quantity: 100Mi, available: ")
        # of the machine's memory there was enough
        assert (await Measure(node.cri, made, node.options).node())[thresholds.MEMORY].available > 100 * MIB
        assert (await node.pod("modest")).status.phase == "Running"


def image(name: str, megabytes: int) -> bytes:
    layer = Layer()
    layer.file("data", os.urandom(megabytes * MIB), 0o644)
    return image_archive(name, layer.finish(), ImageConfig(cmd=("/none",)))


async def test_unused_images_and_dead_containers_go_before_pods_do(tmp_path: Path) -> None:
    settings = NodeSettings(eviction=(), minimum_image_ttl=0.0, image_gc_high_threshold=0, image_gc_low_threshold=0)
    async with agent(tmp_path, housekeeping_seconds=0.2, image_gc_seconds=0.5, settings=settings) as node:
        await node.create("uses", SLEEP)
        await node.running("uses")
        await node.create("done", {"command": ["true"]}, restartPolicy="Never")
        await node.wait("done", lambda pod: pod.status.phase == "Succeeded")
        archive = tmp_path / "unused.tar"
        archive.write_bytes(image("docker.io/library/unused:1", 3))
        await import_archive(node.cri, archive)

        async def gone() -> bool:
            return await node.cri.image_status("docker.io/library/unused:1") is None

        # a disk that is "full" from the first byte: whatever is in nobody's use goes, and nothing else
        await until(gone, 10)
        names = {name for i in await node.cri.list_images() for name in i.repo_tags}
        assert "docker.io/library/busybox:test" in names and "minikube-py.internal/pause:1" in names
        assert "docker.io/library/web:test" not in names
        await until(_said(node, "FreeDiskSpaceFailed"), 10)

        await import_archive(node.cri, archive)
        await node.kubelet.collector.reclaim()
        assert await gone()
        left = {c.labels["io.kubernetes.pod.name"] for c in await node.cri.list_containers()}
        assert left == {"uses"}
        done = await node.pod("done")
        assert done.status.phase == "Succeeded" and status(done).state.terminated
        await node.delete("done")
        await node.gone("done")


def _said(node: Agent, reason: str) -> Any:
    async def said() -> bool:
        return reason in [r for r, _ in await node.events(NODE)]

    return said


async def test_a_runtime_that_was_away_for_a_moment_is_asked_about_images_again_soon(tmp_path: Path) -> None:
    async with agent(tmp_path) as node:
        containerd = node.node.containerd
        await containerd.stop()
        supervisor = Supervisor()
        health = supervisor.start("images", node.kubelet.collector.run)
        try:
            await until(lambda: health.problem not in ("", "starting"))
            await containerd.start()
            await until(lambda: not health.problem)
        finally:
            await supervisor.close()


async def test_what_a_crash_left_of_a_pod_is_found_and_removed(tmp_path: Path) -> None:
    async with agent(tmp_path) as node:
        await node.create("web", SLEEP)
        uid = (await node.running("web")).metadata.uid
        await node.stop()
        directory, logs = node.options.pod_dir(uid), node.options.pod_log_dir("default", "web", uid)
        # the pod is gone from the API and from the runtime, as after a crash between the last steps
        await node.delete("web", grace=0)
        for sandbox in await node.cri.list_pod_sandboxes():
            await node.cri.stop_pod_sandbox(sandbox.id)
            await node.cri.remove_pod_sandbox(sandbox.id)
        assert directory.exists() and logs.exists()
        node._start()
        await until(lambda: not directory.exists() and not logs.exists(), 10)
        await asyncio.sleep(0)
