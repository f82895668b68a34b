"""What /stats/summary tells of the volumes behind a pod's claims: how full the file system is, or how large the device.

As upstream's, a volume that is a path of the host's tells nothing. Blocking: called in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minikube_py.kubelet.volumes.claims import claims_of
from minikube_py.kubelet.volumes.manager import volume_path
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume

Obj = dict[str, Any]


def claim_stats(now: str, pod: Pod, directory: Path, claimed: Mapping[str, PersistentVolume]) -> list[Obj]:
    """The entries of a pod's claims that are volumes of this node. `claimed` has the persistent volumes by the volume's name."""
    claims = {volume: claim for volume, claim, _ in claims_of(pod)}
    out: list[Obj] = []
    for volume in pod.spec.volumes:
        persistent = claimed.get(volume.name)
        if volume.name not in claims or persistent is None or persistent.spec.local is None:
            continue
        path = volume_path(directory, volume, persistent)
        try:
            sizes = _device(path) if persistent.spec.volumeMode == "Block" else _file_system(path)
        except OSError:  # not there yet, or not any more
            continue
        reference = {"name": claims[volume.name], "namespace": pod.metadata.namespace}
        out.append({"time": now, **sizes, "name": volume.name, "pvcRef": reference})
    return out


def _file_system(path: Path) -> Obj:
    found = os.statvfs(path)
    return {
        "availableBytes": found.f_bavail * found.f_frsize,
        "capacityBytes": found.f_blocks * found.f_frsize,
        "usedBytes": (found.f_blocks - found.f_bfree) * found.f_frsize,
        "inodesFree": found.f_ffree,
        "inodes": found.f_files,
        "inodesUsed": found.f_files - found.f_ffree,
    }


def _device(path: Path) -> Obj:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)
    return {"availableBytes": 0, "capacityBytes": size, "usedBytes": 0, "inodesFree": 0, "inodes": 0, "inodesUsed": 0}
