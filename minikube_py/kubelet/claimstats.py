"""How full the volumes behind pods' claims are, as their file systems say: told by the Summary API, and as kubelet_volume_stats_*.

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
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume


class FileSystem(NamedTuple):
    """Bytes and inodes of a file system."""

    capacity: int
    available: int
    used: int
    inodes: int
    inodes_free: int

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
        if persistent is None or persistent.spec.hostPath is not None:
            continue
        path = volume_path(directory, volumes[name], persistent)
        try:
            disk = os.statvfs(path)
        except OSError:
            continue
        unit = disk.f_frsize
        used = (disk.f_blocks - disk.f_bfree) * unit
        yield ClaimReading(
            name,
            claim,
            pod.metadata.namespace,
            FileSystem(disk.f_blocks * unit, disk.f_bavail * unit, used, disk.f_files, disk.f_ffree),
        )


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


def gauges(readings: Iterable[ClaimReading]) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """As Prometheus reads it."""
    for reading in readings:
        found, whom = reading.found, (reading.namespace, reading.claim)
        for name, value in (
            ("capacity_bytes", found.capacity),
            ("available_bytes", found.available),
            ("used_bytes", found.used),
            ("inodes", found.inodes),
            ("inodes_free", found.inodes_free),
            ("inodes_used", found.inodes_used),
        ):
            yield f"kubelet_volume_stats_{name}", whom, value
