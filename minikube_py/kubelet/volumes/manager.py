"""Puts a pod's volumes on the node, keeps their content current, and takes them away again.

Layout as upstream's, below the pod's directory: volumes/kubernetes.io~<plugin>/<name>, volume-subpaths/<volume>/<container>/<index>.
Secrets, tokens and the downward API live in memory file systems. `ensure` is idempotent and is also the update: it compares before it
writes. What always holds: nothing but what was made here is ever removed, whatever is mounted where (see `removal`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from minikube_py.cri.imagefs import ImageFilesystems
from minikube_py.kubelet.volumes import content, imagevolumes, mounts, setup
from minikube_py.kubelet.volumes.content import ContentError, Files
from minikube_py.kubelet.volumes.removal import remove_tree
from minikube_py.meta import quantity
from minikube_py.types.pod import Pod, Volume
from minikube_py.types.storage import PersistentVolume


class VolumeError(Exception):
    """A volume cannot be set up; `volume` is its name, the text goes into the FailedMount event."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {message}')
        self.volume = volume


class _Work(NamedTuple):
    volume: Volume
    path: Path
    files: Files | None
    persistent: PersistentVolume | None = None


async def ensure(pod: Pod, directory: Path, sources: content.Sources, claimed: Mapping[str, PersistentVolume]) -> dict[str, str]:
    """Have every volume of the pod but those of images in place and current; their host paths by name.

    `claimed` are the persistent volumes behind the pod's claims, by the volume's name. Raises VolumeError."""
    work = []
    for volume in pod.spec.volumes:
        if volume.image is None:  # mounted once the image was pulled, for the containers that want it
            persistent = claimed.get(volume.name)
            work.append(_Work(volume, volume_path(directory, volume, persistent), _files(pod, volume, sources), persistent))
    memory = quantity.parse(sources.allocatable.get("memory", "0")).value()
    return await asyncio.to_thread(_ensure, pod, directory, work, memory)


async def refresh(pod: Pod, directory: Path, sources: content.Sources) -> None:
    """Bring the files of the volumes that are made from objects up to date. Raises VolumeError."""
    made = [volume for volume in pod.spec.volumes if content.has_content(volume)]
    work = [_Work(volume, volume_path(directory, volume), _files(pod, volume, sources)) for volume in made]
    if work:
        await asyncio.to_thread(_ensure, pod, directory, work, 0)


async def teardown(directory: Path, images: ImageFilesystems) -> None:
    """Unmount everything below the pod's directory and remove its volumes. Raises OSError, CriError."""
    await asyncio.to_thread(mounts.unmount_below, directory)
    await imagevolumes.release(directory, images)
    for name in ("volume-subpaths", "volumes", "plugins"):
        if (directory / name).exists():
            await asyncio.to_thread(remove_tree, directory / name)


async def remove(directory: Path, images: ImageFilesystems) -> None:
    """Unmount everything below the pod's directory and remove it. Raises OSError, CriError."""
    if directory.exists():
        await teardown(directory, images)
        await asyncio.to_thread(remove_tree, directory)


def volume_path(directory: Path, volume: Volume, persistent: PersistentVolume | None = None) -> Path:
    """Where a volume lies on the host."""
    host = volume.hostPath or (persistent.spec.hostPath if persistent is not None else None)
    if host is not None:
        return Path(host.path)
    if persistent is not None:
        return directory / "volumes" / "kubernetes.io~local-volume" / persistent.metadata.name
    kind = (
        "configmap"
        if volume.configMap is not None
        else "secret"
        if volume.secret is not None
        else "downward-api"
        if volume.downwardAPI is not None
        else "projected"
        if volume.projected is not None
        else "empty-dir"
    )
    return directory / "volumes" / f"kubernetes.io~{kind}" / volume.name


def _files(pod: Pod, volume: Volume, sources: content.Sources) -> Files | None:
    if not content.has_content(volume):
        return None
    try:
        return content.files(pod, volume, sources)
    except ContentError as error:
        raise VolumeError(volume.name, str(error)) from error


def _ensure(pod: Pod, directory: Path, work: Sequence[_Work], memory: int) -> dict[str, str]:
    paths: dict[str, str] = {}
    for item in work:
        paths[item.volume.name] = str(item.path)
        try:
            _set_up(pod, directory, item, memory)
        except (OSError, ValueError) as error:
            name = item.persistent.metadata.name if item.persistent is not None else item.volume.name
            raise VolumeError(name, str(error)) from error
    return paths


def _set_up(pod: Pod, directory: Path, item: _Work, memory: int) -> None:
    volume, path = item.volume, item.path
    if volume.hostPath is not None:
        setup.host_path(volume.hostPath)
    elif volume.emptyDir is not None:
        ready = directory / "plugins" / "kubernetes.io~empty-dir" / volume.name / "ready"
        setup.empty_dir(pod, volume, volume.emptyDir, path, ready, memory)
    elif item.files is not None:
        setup.files(pod, volume, item.files, path)
    elif item.persistent is not None and item.persistent.spec.hostPath is not None:
        setup.host_path(item.persistent.spec.hostPath)
    elif item.persistent is not None and item.persistent.spec.local is not None:
        claim = volume.persistentVolumeClaim
        setup.local(pod, item.persistent.spec.local.path, path, read_only=claim is not None and claim.readOnly)
    else:
        raise ValueError("no volume plugin matched")


def uids(root: Path) -> set[str]:
    """The pods of which directories are left. Blocking."""
    directory = root / "pods"
    return {entry.name for entry in os.scandir(directory)} if directory.is_dir() else set()
