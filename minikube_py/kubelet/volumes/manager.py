"""Puts a pod's volumes on the node, keeps their content current, and takes them away again.

Layout as upstream's, below the pod's directory: volumes/kubernetes.io~<plugin>/<name>, volume-subpaths/<volume>/<container>/<index>,
volumeDevices/kubernetes.io~<plugin>/<name> for raw devices.
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
from minikube_py.kubelet.volumes import content, imagevolumes, local, mounts, setup, use
from minikube_py.kubelet.volumes.content import ContentError, Files
from minikube_py.kubelet.volumes.local import Note
from minikube_py.kubelet.volumes.removal import remove_tree
from minikube_py.meta import quantity
from minikube_py.types.pod import Pod, Volume
from minikube_py.types.storage import PersistentVolume


class VolumeError(Exception):
    """A volume cannot be set up; `volume` is its name, the text goes into an event with this reason."""

    def __init__(self, volume: str, message: str, operation: str = "MountVolume.SetUp", reason: str = "FailedMount") -> None:
        super().__init__(f'{operation} failed for volume "{volume}" : {message}')
        self.volume, self.reason = volume, reason


class _Work(NamedTuple):
    volume: Volume
    path: Path
    files: Files | None
    persistent: PersistentVolume | None = None


class _Made(NamedTuple):
    paths: dict[str, str]
    notes: list[Note]


async def ensure(pod: Pod, directory: Path, sources: content.Sources, claimed: Mapping[str, PersistentVolume]) -> _Made:
    """Have every volume that the pod uses, but those of images, in place and current; their host paths by name, and what is to be told.

    `claimed` are the persistent volumes behind the pod's claims, by the volume's name. Raises VolumeError."""
    work = []
    for volume in use.used(pod):
        if volume.image is None:  # mounted once the image was pulled, for the containers that want it
            persistent = claimed.get(volume.name)
            work.append(_Work(volume, volume_path(directory, volume, persistent), _files(pod, volume, sources), persistent))
    memory = quantity.parse(sources.allocatable.get("memory", "0")).value()
    return await asyncio.to_thread(_ensure, pod, directory, work, memory)


async def refresh(pod: Pod, directory: Path, sources: content.Sources) -> None:
    """Bring the files of the volumes that are made from objects up to date. Raises VolumeError."""
    made = [volume for volume in use.used(pod) if content.has_content(volume)]
    work = [_Work(volume, volume_path(directory, volume), _files(pod, volume, sources)) for volume in made]
    if work:
        await asyncio.to_thread(_ensure, pod, directory, work, 0)


async def teardown(directory: Path, images: ImageFilesystems) -> None:
    """Unmount everything below the pod's directory and remove its volumes. Raises OSError, CriError."""
    await asyncio.to_thread(mounts.unmount_below, directory)
    await asyncio.to_thread(local.unmount_unused, directory.parent.parent)
    await imagevolumes.release(directory, images)
    for name in ("volume-subpaths", "volumes", "volumeDevices", "plugins"):
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
        kind = "volumeDevices" if persistent.spec.volumeMode == "Block" else "volumes"
        return directory / kind / "kubernetes.io~local-volume" / persistent.metadata.name
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


def _ensure(pod: Pod, directory: Path, work: Sequence[_Work], memory: int) -> _Made:
    made = _Made({}, [])
    for item in work:
        made.paths[item.volume.name] = str(item.path)
        name = item.persistent.metadata.name if item.persistent is not None else item.volume.name
        try:
            if item.persistent is not None and item.persistent.spec.volumeMode == "Block":
                made.notes.extend(_map(item.persistent, item.path))
            elif item.persistent is not None:
                made.notes.extend(_mount(pod, directory, item, item.persistent))
            else:
                _set_up(pod, directory, item, memory)
        except local.DeviceError as error:
            raise VolumeError(name, str(error), "MountVolume.MountDevice") from error
        except (OSError, ValueError) as error:
            raise VolumeError(name, str(error)) from error
    return made


def _map(persistent: PersistentVolume, path: Path) -> Sequence[Note]:
    name = persistent.metadata.name
    if persistent.spec.local is None:
        message = "failed to find BlockVolumeMapper plugin. Volume plugin is nil."
        raise VolumeError(name, message, "MapVolume.FindMapperPluginBySpec", "FailedMapVolume")
    try:
        return local.link_device(persistent, path)
    except FileNotFoundError as error:
        raise VolumeError(name, str(error), "MapVolume.EvalHostSymlinks", "FailedMapVolume") from error
    except (OSError, ValueError) as error:
        raise VolumeError(name, str(error), "MapVolume.MapBlockVolume", "FailedMapVolume") from error


def _mount(pod: Pod, directory: Path, item: _Work, persistent: PersistentVolume) -> Sequence[Note]:
    if persistent.spec.hostPath is not None:
        setup.host_path(persistent.spec.hostPath)
        return ()
    if persistent.spec.local is None:
        raise ValueError("no volume plugin matched")
    claim = item.volume.persistentVolumeClaim
    return local.mount(pod, persistent, item.path, directory.parent.parent, read_only=claim is not None and claim.readOnly)


def _set_up(pod: Pod, directory: Path, item: _Work, memory: int) -> None:
    volume, path = item.volume, item.path
    if volume.hostPath is not None:
        setup.host_path(volume.hostPath)
    elif volume.emptyDir is not None:
        ready = directory / "plugins" / "kubernetes.io~empty-dir" / volume.name / "ready"
        setup.empty_dir(pod, volume, volume.emptyDir, path, ready, memory)
    elif item.files is not None:
        setup.files(pod, volume, item.files, path)
    else:
        raise ValueError("no volume plugin matched")


def uids(root: Path) -> set[str]:
    """The pods of which directories are left. Blocking."""
    directory = root / "pods"
    return {entry.name for entry in os.scandir(directory)} if directory.is_dir() else set()
