"""Image volumes: the files of an image, mounted read-only below the pod's directory, whichever version containerd is of.

What always holds: the mount's directory is there before the view is asked for, and stays until it was given up, so that the directories
tell which views a pod has, also to the next process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from minikube_py.cri.imagefs import ImageFilesystems, Mount
from minikube_py.kubelet.volumes import mounts

_PLUGIN = "kubernetes.io~image"
_FLAGS = {"ro": mounts.MS_RDONLY, "nosuid": mounts.MS_NOSUID, "nodev": mounts.MS_NODEV, "noexec": mounts.MS_NOEXEC}
_IGNORED = ("rw", "bind", "rbind")


def path_of(directory: Path, volume: str) -> Path:
    """Where an image volume lies."""
    return directory / "volumes" / _PLUGIN / volume


async def ensure(directory: Path, volume: str, image_id: str, images: ImageFilesystems) -> str:
    """Mount an image that is present, unless something is mounted for the volume already; its host path. Raises OSError, CriError."""
    path = path_of(directory, volume)
    if not await asyncio.to_thread(_prepare, path):
        await asyncio.to_thread(_mount, await images.view(image_id, _key(directory.name, volume)), path)
    return str(path)


async def release(directory: Path, images: ImageFilesystems) -> None:
    """Give up the views of a pod's image volumes, all unmounted. Idempotent. Raises CriError."""
    for volume in await asyncio.to_thread(_volumes, directory):
        await images.release(_key(directory.name, volume))


def _key(uid: str, volume: str) -> str:
    return f"minikube-py-volume-{uid}-{volume}"


def _volumes(directory: Path) -> Sequence[str]:
    try:
        return os.listdir(directory / "volumes" / _PLUGIN)
    except FileNotFoundError:
        return ()


def _prepare(path: Path) -> bool:
    """Make the mount point; whether it is mounted."""
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    return mounts.is_mount(path)


def _mount(view: Sequence[Mount], path: Path) -> None:
    for mount in view:
        flags, data, layers = mounts.MS_RDONLY, [], []
        for option in mount.options:
            if option.startswith("lowerdir="):
                layers = option.removeprefix("lowerdir=").split(":")
            elif option in _FLAGS:
                flags |= _FLAGS[option]
            elif option not in _IGNORED:
                data.append(option)
        if mount.type == "bind" or {"bind", "rbind"} & set(mount.options):
            mounts.bind(mount.source, path)
            mounts.mount("", str(path), "", mounts.MS_BIND | mounts.MS_REMOUNT | flags)
        else:
            _mount_layers(mount, path, flags, data, layers)


def _mount_layers(mount: Mount, path: Path, flags: int, data: Sequence[str], layers: Sequence[str]) -> None:
    """Layers are named by descriptors: the names of many would not fit into the page that the kernel takes."""
    opened = [os.open(layer, os.O_PATH | os.O_DIRECTORY) for layer in layers]
    try:
        lower = [f"lowerdir={':'.join(f'/proc/self/fd/{descriptor}' for descriptor in opened)}"] if opened else []
        mounts.mount(mount.source, str(path), mount.type, flags, ",".join((*lower, *data)))
    finally:
        for descriptor in opened:
            os.close(descriptor)
