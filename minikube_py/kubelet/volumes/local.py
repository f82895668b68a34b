"""Persistent volumes of the kind `local`: a directory of this node, or one of its block devices, as a file system or raw.

A directory is bound into the pod's. The file system of a device is mounted once on the node (plugins/kubernetes.io/local-volume/mounts),
bound into every pod that uses it, and unmounted when the last of them is gone; what uses it is read from the mount table, so it is known
after a restart too. A raw device is a link below the pod's volumeDevices, as upstream's. Blocking: called in a thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from minikube_py.kubelet.volumes import blockdevices, mounts, ownership
from minikube_py.types.pod import Pod
from minikube_py.types.storage import PersistentVolume

_FILE_SYSTEM = "ext4"

_guard = threading.Lock()
_locks: weakref.WeakValueDictionary[Path, threading.Lock] = weakref.WeakValueDictionary()


class Note(NamedTuple):
    """What an event tells of a volume that was set up."""

    type: str
    reason: str
    message: str


class DeviceError(ValueError):
    """The file system of a device cannot be mounted."""


def shared_directory(root: Path, name: str) -> Path:
    """Where the node has the file system of a volume that is a device."""
    return _shared(root) / name


def mount(pod: Pod, persistent: PersistentVolume, path: Path, root: Path, *, read_only: bool) -> Sequence[Note]:
    """Have the volume's files at a path of the pod's, with the pod's group. Raises DeviceError, OSError, ValueError."""
    assert persistent.spec.local is not None
    source, name = persistent.spec.local.path, persistent.metadata.name
    is_device = _is_device(source)
    whole = shared_directory(root, name) if is_device else Path(source)
    with _alone(whole):
        if is_device and not mounts.is_mount(whole):
            kind = persistent.spec.local.fsType or _FILE_SYSTEM
            _mount_device(source, whole, kind, (*(("ro",) if read_only else ()), *persistent.spec.mountOptions))
        path.mkdir(parents=True, exist_ok=True, mode=0o750)
        if mounts.is_mount(path):
            return ()
        others = [point for point in mounts.showing(whole) if point.is_relative_to(root / "pods")]
        mounts.bind(str(whole), path)
        if read_only:
            mounts.mount("", str(path), "", mounts.MS_BIND | mounts.MS_REMOUNT | mounts.MS_RDONLY)
        if persistent.spec.mountOptions and not is_device:
            blockdevices.mount(str(whole), path, (), ("bind", "remount", *(("ro",) if read_only else ()), *persistent.spec.mountOptions))
        group = pod.spec.securityContext.fsGroup
        if group is None:
            return ()
        if others:
            return _shared_with(name, group, whole.stat().st_gid)
        if not read_only:
            ownership.apply(path, group, pod.spec.securityContext.fsGroupChangePolicy)
        return ()


def link_device(persistent: PersistentVolume, link: Path) -> Sequence[Note]:
    """Have a raw device at a path of the pod's. Raises OSError, ValueError."""
    assert persistent.spec.local is not None
    device = os.path.realpath(persistent.spec.local.path, strict=True)
    if not stat.S_ISBLK(os.stat(device).st_mode):
        raise ValueError(f"{device} is not a block device")
    if link.is_symlink() and os.readlink(link) == device:
        return ()
    link.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    link.unlink(missing_ok=True)
    link.symlink_to(device)
    done = f'MapVolume.MapPodDevice succeeded for volume "{persistent.metadata.name}" volumeMapPath "{link.parent}"'
    return (Note("Normal", "SuccessfulMountVolume", done),)


def unmount_unused(root: Path) -> None:
    """Unmount the file systems of devices that no pod has any more."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(_shared(root)):
            whole = shared_directory(root, name)
            with _alone(whole):
                if not any(point.is_relative_to(root / "pods") for point in mounts.showing(whole)):
                    mounts.unmount(whole)
                    whole.rmdir()


def _shared(root: Path) -> Path:
    return root / "plugins" / "kubernetes.io" / "local-volume" / "mounts"


def _is_device(source: str) -> bool:
    try:
        mode = os.stat(source).st_mode
    except FileNotFoundError as error:
        raise ValueError(f'path "{source}" does not exist') from error
    if not stat.S_ISDIR(mode) and not stat.S_ISBLK(mode):
        raise ValueError("only directory and block device are supported")
    return stat.S_ISBLK(mode)


def _mount_device(device: str, target: Path, kind: str, options: Sequence[str]) -> None:
    target.mkdir(parents=True, exist_ok=True, mode=0o750)
    try:
        blockdevices.format_and_mount(device, target, kind, options)
    except (OSError, ValueError) as error:
        target.rmdir()
        raise DeviceError(f"local: failed to mount device {device} at {target} (fstype: {kind}), error {error}") from error


def _shared_with(name: str, wanted: int, group: int) -> Sequence[Note]:
    """The group belongs to those who had the volume first."""
    if wanted == group:
        return ()
    text = f"The requested fsGroup is {wanted}, but the volume {name} has GID {group}. The volume may not be shareable."
    return (Note("Warning", "AlreadyMountedVolume", text),)


@contextlib.contextmanager
def _alone(whole: Path) -> Iterator[None]:
    """One at a time for every volume: what mounts must not meet what unmounts."""
    with _guard:
        lock = _locks.get(whole)
        if lock is None:
            lock = _locks[whole] = threading.Lock()
    with lock:
        yield
