"""Measures the node and its pods for eviction: what is left, and who uses how much of it.

A look at the node costs some reads of /proc and /sys. Pods are measured only when it matters: under pressure all of them, else those whose
local storage is limited, and a directory that takes long to walk is not walked again before twenty times as long has passed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path

from minikube_py.cri import errors
from minikube_py.cri.client import CriClient
from minikube_py.kubelet import machine, resources, state
from minikube_py.kubelet.cgroups import Cgroups
from minikube_py.kubelet.eviction import Observation
from minikube_py.kubelet.options import KubeletOptions
from minikube_py.kubelet.usage import ContainerUsage, Disk, PodUsage
from minikube_py.kubelet.volumes import use
from minikube_py.meta import thresholds
from minikube_py.types.pod import Pod

_RESTS = 20
_BLOCK = 512


class Measure:
    """Looks at one node."""

    def __init__(self, cri: CriClient, cgroups: Cgroups, options: KubeletOptions) -> None:
        self._cri, self._cgroups, self._options = cri, cgroups, options
        self._walked: dict[Path, tuple[float, Disk]] = {}
        self._images: Path | None = None

    async def node(self) -> dict[str, Observation]:
        """What is left, by signal; a signal of which nothing is known is missing."""
        return await asyncio.to_thread(self._node, await self._image_directory())

    async def image_fs(self) -> bool:
        """Whether images lie on a file system of their own."""
        images = await self._image_directory()
        return images is not None and await asyncio.to_thread(_device, images) != await asyncio.to_thread(_device, self._options.root_dir)

    async def image_disk(self) -> Observation | None:
        """What is left, in bytes, where the images lie; None where that is not known."""
        return (await self.node()).get(thresholds.IMAGEFS)

    async def pods(self, pods: Iterable[Pod], *, everything: bool = True) -> dict[str, PodUsage]:
        """What pods use, by UID; without `everything` only their local storage."""
        wanted = tuple(pods)
        if not wanted:
            return {}
        layers: dict[tuple[str, str], tuple[int, Disk]] = {}
        for stats in await self._cri.list_container_stats():
            labels = stats.attributes.labels
            layer = Disk(stats.writable_layer.used_bytes.value, stats.writable_layer.inodes_used.value)
            key = labels.get(state.POD_UID, ""), labels.get(state.CONTAINER_NAME, "")
            layers[key] = stats.memory.working_set_bytes.value, layer
        return await asyncio.to_thread(lambda: {pod.metadata.uid: self._pod(pod, layers, everything) for pod in wanted})

    def _node(self, images: Path | None) -> dict[str, Observation]:
        out: dict[str, Observation] = {}
        memory = machine.meminfo()
        total, used = memory.get("MemTotal", 0), self._cgroups.node_working_set()
        left = total - used if used is not None else memory.get("MemAvailable", 0)
        out[thresholds.MEMORY] = Observation(max(0, left), total)
        if (pods := self._cgroups.all_pods()).limit is not None:
            out[thresholds.ALLOCATABLE_MEMORY] = Observation(max(0, pods.limit - pods.memory), pods.limit)
        for path, space, inodes in (
            (self._options.root_dir, thresholds.NODEFS, thresholds.NODEFS_INODES),
            (images, thresholds.IMAGEFS, thresholds.IMAGEFS_INODES),
        ):
            if path is None:
                continue
            disk = os.statvfs(machine.existing(path))
            out[space] = Observation(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
            if disk.f_files:
                out[inodes] = Observation(disk.f_ffree, disk.f_files)
        running, most = machine.processes()
        if most:
            out[thresholds.PIDS] = Observation(most - running, most)
        return out

    def _pod(self, pod: Pod, layers: dict[tuple[str, str], tuple[int, Disk]], everything: bool) -> PodUsage:
        meta = pod.metadata
        logs = self._options.pod_log_dir(meta.namespace, meta.name, meta.uid)
        containers = []
        for container in (*pod.spec.containers, *pod.spec.initContainers):
            memory, layer = layers.get((meta.uid, container.name), (0, Disk()))
            containers.append(ContainerUsage(container.name, memory, layer, self._walk(logs / container.name)))
        base = self._options.pod_dir(meta.uid) / "volumes"
        volumes = {}
        for volume in use.used(pod):
            kind = "empty-dir" if volume.emptyDir is not None else "configmap" if volume.configMap is not None else ""
            if kind:
                volumes[volume.name] = self._walk(base / f"kubernetes.io~{kind}" / volume.name)
        memory, processes = self._cgroups.usage(resources.qos_class(pod), meta.uid) if everything else (0, 0)
        return PodUsage(memory, processes, tuple(containers), volumes)

    def _walk(self, directory: Path) -> Disk:
        began = time.monotonic()
        not_before, known = self._walked.get(directory, (0.0, Disk()))
        if began < not_before:
            return known
        try:
            found = disk_usage(directory)
        except OSError:
            self._walked.pop(directory, None)
            return Disk()
        took = time.monotonic() - began
        if took > 0.05:
            self._walked[directory] = (began + took * (_RESTS + 1), found)
        else:
            self._walked.pop(directory, None)
        return found

    async def _image_directory(self) -> Path | None:
        """Where the runtime keeps images; asked once, since it does not change while the runtime lives."""
        if self._images is None:
            try:
                answer = await self._cri.image_fs_info()
            except errors.CriError:
                return None
            found = [fs.fs_id.mountpoint for fs in answer.image_filesystems if fs.fs_id.mountpoint]
            self._images = Path(found[0]) if found else None
        return self._images


def disk_usage(directory: Path) -> Disk:
    """What a directory and everything below it takes on its own file system; hard links once. Raises OSError where it is not there."""
    top = os.stat(directory)
    seen: set[int] = set()
    size, inodes, stack = top.st_blocks * _BLOCK, 1, [str(directory)]
    while stack:
        try:
            entries = os.scandir(stack.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    stat = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if stat.st_dev != top.st_dev:
                    continue
                if stat.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    if stat.st_ino in seen:
                        continue
                    seen.add(stat.st_ino)
                size += stat.st_blocks * _BLOCK
                inodes += 1
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
    return Disk(size, inodes)


def _device(path: Path) -> int:
    return os.stat(machine.existing(path)).st_dev
