"""How full the volumes behind claims are, for /metrics."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from minikube_py.kubelet.pods import Pods
from minikube_py.kubelet.tools import Tools
from minikube_py.kubelet.volumes.claims import claims_of
from minikube_py.kubelet.volumes.manager import volume_path
from minikube_py.meta.expfmt import Family, Sample


class VolumeStats(NamedTuple):
    """The file system of a claim's volume, in bytes and inodes."""

    namespace: str
    claim: str
    capacity: int
    available: int
    used: int
    inodes: int
    inodes_free: int
    inodes_used: int


async def metrics(tools: Tools, pods: Pods) -> Iterator[Family]:
    """The families of one node, as of now."""
    volumes: dict[Path, tuple[str, str]] = {}
    for worker in pods.workers.values():
        pod = worker.pod
        if pod is not None and worker.state.running:
            known = tools.claims.known(pod.metadata.uid)
            for name, claim, _ in claims_of(pod):
                if name in known:
                    volume = next(v for v in pod.spec.volumes if v.name == name)
                    path = volume_path(tools.options.pod_dir(pod.metadata.uid), volume, known[name])
                    volumes[path] = pod.metadata.namespace, claim
    stats = await asyncio.to_thread(lambda: [s for path, claim in volumes.items() if (s := _stats(path, *claim)) is not None])
    return _of_volumes(stats)


def _of_volumes(stats: Sequence[VolumeStats]) -> Iterator[Family]:
    for name, (field, words) in _VOLUME_STATS.items():
        samples = [Sample(getattr(s, field), {"namespace": s.namespace, "persistentvolumeclaim": s.claim}) for s in stats]
        yield Family(f"kubelet_volume_stats_{name}", "gauge", f"[ALPHA] {words}", samples)


_VOLUME_STATS: Mapping[str, tuple[str, str]] = {
    "capacity_bytes": ("capacity", "Capacity in bytes of the volume"),
    "available_bytes": ("available", "Number of available bytes in the volume"),
    "used_bytes": ("used", "Number of used bytes in the volume"),
    "inodes": ("inodes", "Maximum number of inodes in the volume"),
    "inodes_free": ("inodes_free", "Number of free inodes in the volume"),
    "inodes_used": ("inodes_used", "Number of used inodes in the volume"),
}


def _stats(path: Path, namespace: str, claim: str) -> VolumeStats | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    size = found.f_frsize
    capacity, available, used = found.f_blocks * size, found.f_bavail * size, (found.f_blocks - found.f_bfree) * size
    return VolumeStats(namespace, claim, capacity, available, used, found.f_files, found.f_ffree, found.f_files - found.f_ffree)
