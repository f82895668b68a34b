"""How full the volumes behind pods' claims are, or how large their devices: told by the Summary API, and as kubelet_volume_stats_*.

Volumes of the type hostPath are not told of, as upstream: what their file system has left is the node's own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minikube_py.client.transport import TransportError
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.volumes.claims import ClaimError, claims_of
from minikube_py.kubelet.volumes.manager import volume_path
from minikube_py.meta.errors import StatusError
from minikube_py.meta.expfmt import Family, Sample
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume


class FileSystem(NamedTuple):
    """Bytes and inodes of a file system; of a raw device its size alone is known."""

    capacity: int
    available: int = 0
    used: int = 0
    inodes: int = 0
    inodes_free: int = 0

    @property
    def inodes_used(self) -> int:
        """The inodes that are taken."""
        return self.inodes - self.inodes_free


class ClaimReading(NamedTuple):
    """A pod's volume that is a claim."""

    volume: str
    claim: str
    namespace: str
    found: FileSystem


async def read(tools: Tools, pods: Iterable[Pod]) -> Mapping[str, Sequence[ClaimReading]]:
    """The claims' volumes by pod's UID; one whose volume is not there, or not known yet, is missing."""
    wanted = []
    for pod in pods:
        try:
            wanted.append((pod, await tools.claims.get(pod)))
        except (ClaimError, StatusError, TransportError):
            continue
    directory = tools.options.pod_dir
    return await asyncio.to_thread(
        lambda: {pod.metadata.uid: tuple(_look(pod, directory(pod.metadata.uid), claimed)) for pod, claimed in wanted if claimed}
    )


def _look(pod: Pod, directory: Path, claimed: Mapping[str, PersistentVolume]) -> Iterator[ClaimReading]:
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    for name, claim, _ in claims_of(pod):
        persistent = claimed.get(name)
        if persistent is None or persistent.spec.local is None:
            continue
        path = volume_path(directory, volumes[name], persistent)
        try:
            found = _device(path) if persistent.spec.volumeMode == "Block" else _file_system(path)
        except OSError:  # not there yet, or not any more
            continue
        yield ClaimReading(name, claim, pod.metadata.namespace, found)


def _file_system(path: Path) -> FileSystem:
    disk = os.statvfs(path)
    unit = disk.f_frsize
    return FileSystem(disk.f_blocks * unit, disk.f_bavail * unit, (disk.f_blocks - disk.f_bfree) * unit, disk.f_files, disk.f_ffree)


def _device(path: Path) -> FileSystem:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return FileSystem(os.lseek(descriptor, 0, os.SEEK_END))
    finally:
        os.close(descriptor)


def summary(reading: ClaimReading, now: str) -> dict[str, Any]:
    """As the Summary API says it."""
    found = reading.found
    return {
        "time": now,
        "availableBytes": found.available,
        "capacityBytes": found.capacity,
        "usedBytes": found.used,
        "inodesFree": found.inodes_free,
        "inodes": found.inodes,
        "inodesUsed": found.inodes_used,
        "name": reading.volume,
        "pvcRef": {"name": reading.claim, "namespace": reading.namespace},
    }


def families(readings: Sequence[ClaimReading]) -> Iterator[Family]:
    """As Prometheus reads it."""
    for name, words in _FAMILIES.items():
        field = name.removesuffix("_bytes")
        samples = [Sample(getattr(r.found, field), {"namespace": r.namespace, "persistentvolumeclaim": r.claim}) for r in readings]
        yield Family(f"kubelet_volume_stats_{name}", "gauge", f"[ALPHA] {words}", samples)


_FAMILIES = {
    "available_bytes": "Number of available bytes in the volume",
    "capacity_bytes": "Capacity in bytes of the volume",
    "inodes": "Maximum number of inodes in the volume",
    "inodes_free": "Number of free inodes in the volume",
    "inodes_used": "Number of used inodes in the volume",
    "used_bytes": "Number of used bytes in the volume",
}
