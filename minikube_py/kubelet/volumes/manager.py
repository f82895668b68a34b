"""Puts a pod's volumes on the node, keeps their content current, and takes them away again.

Layout as upstream's, below the pod's directory: volumes/kubernetes.io~<plugin>/<name>, volume-subpaths/<volume>/<container>/<index>.
Secrets, tokens and the downward API live in memory file systems. `ensure` is idempotent and is also the update: it compares before it
writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from minikube_py.kubelet.containers import MountSpec
from minikube_py.kubelet.env import expand
from minikube_py.kubelet.volumes import atomic, content, mounts, ownership, subpath
from minikube_py.kubelet.volumes.content import ContentError, Files
from minikube_py.meta import quantity
from minikube_py.types.pod import Container, EmptyDirSource, HostPathSource, Pod, Volume, VolumeMount


class VolumeError(Exception):
    """A volume cannot be set up; `volume` is its name, the text goes into the FailedMount event."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {message}')
        self.volume = volume


class MountError(Exception):
    """A container's mount cannot be made: it waits with CreateContainerConfigError and this message."""


class _Work(NamedTuple):
    volume: Volume
    path: Path
    files: Files | None


_TYPE_CHECKS = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


async def ensure(pod: Pod, directory: Path, sources: content.Sources) -> dict[str, str]:
    """Have every volume of the pod in place and current; their host paths by name. Raises VolumeError."""
    work = []
    for volume in pod.spec.volumes:
        files = None
        if content.has_content(volume):
            try:
                files = content.files(pod, volume, sources)
            except ContentError as error:
                raise VolumeError(volume.name, str(error)) from error
        work.append(_Work(volume, volume_path(directory, volume), files))
    return await asyncio.to_thread(_ensure, pod, work)


async def refresh(pod: Pod, directory: Path, sources: content.Sources) -> None:
    """Bring the files of the volumes that are made from objects up to date. Raises VolumeError."""
    work = []
    for volume in pod.spec.volumes:
        if content.has_content(volume):
            try:
                work.append(_Work(volume, volume_path(directory, volume), content.files(pod, volume, sources)))
            except ContentError as error:
                raise VolumeError(volume.name, str(error)) from error
    if work:
        await asyncio.to_thread(_ensure, pod, work)


async def teardown(directory: Path) -> None:
    """Unmount everything below the pod's directory and remove its volumes."""
    await asyncio.to_thread(_teardown, directory)


async def remove(directory: Path) -> None:
    """Unmount everything below the pod's directory and remove it."""
    await asyncio.to_thread(_remove, directory)


def volume_path(directory: Path, volume: Volume) -> Path:
    """Where a volume lies on the host."""
    if volume.hostPath is not None:
        return Path(volume.hostPath.path)
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


async def container_mounts(
    pod: Pod, container: Container, directory: Path, paths: Mapping[str, str], env: Mapping[str, str]
) -> list[MountSpec]:
    """The container's mounts of volumes, subPaths prepared. Raises MountError."""
    return await asyncio.to_thread(_container_mounts, pod, container, directory, paths, env)


def _ensure(pod: Pod, work: Sequence[_Work]) -> dict[str, str]:
    paths: dict[str, str] = {}
    context = pod.spec.securityContext
    for volume, path, files in work:
        paths[volume.name] = str(path)
        try:
            if volume.hostPath is not None:
                _host_path(volume.hostPath)
            elif volume.emptyDir is not None:
                _empty_dir(path, volume.emptyDir, context.fsGroup, context.fsGroupChangePolicy)
            elif files is not None:
                in_memory = volume.configMap is None
                path.mkdir(parents=True, exist_ok=True, mode=0o755)
                if in_memory and not mounts.is_mount(path):
                    mounts.tmpfs(path)
                    path.chmod(0o777)
                elif not in_memory:
                    path.chmod(0o777)
                atomic.write(path, files, context.fsGroup)
            elif volume.image is not None:
                del paths[volume.name]
            else:
                raise VolumeError(volume.name, "no volume plugin matched")
        except OSError as error:
            raise VolumeError(volume.name, str(error)) from error
        except ValueError as error:
            raise VolumeError(volume.name, str(error)) from error
    return paths


def _empty_dir(path: Path, source: EmptyDirSource, group: int | None, policy: str) -> None:
    fresh = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    if source.medium == "Memory" and not mounts.is_mount(path):
        mounts.tmpfs(path, quantity.parse(source.sizeLimit).value() if source.sizeLimit is not None else None)
        fresh = True
    if fresh:
        path.chmod(0o777)
        if group is not None:
            ownership.apply(path, group, policy)


def _host_path(source: HostPathSource) -> None:
    path = Path(source.path)
    kind = source.type
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
        kind = "Directory"
    elif kind == "FileOrCreate":
        if not path.exists():
            path.touch(mode=0o644)
        kind = "File"
    if not kind:
        return
    check, problem = _TYPE_CHECKS[kind]
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = 0
    if not check(mode):
        raise ValueError(f"hostPath type check failed: {path} {problem}")


def _container_mounts(pod: Pod, container: Container, directory: Path, paths: Mapping[str, str], env: Mapping[str, str]) -> list[MountSpec]:
    out: list[MountSpec] = []
    images = {v.name for v in pod.spec.volumes if v.image is not None}
    for index, mount in enumerate(container.volumeMounts):
        if mount.name in images:
            continue
        path = paths.get(mount.name)
        if path is None:
            raise MountError(f'cannot find volume "{mount.name}" to mount into container "{container.name}"')
        sub_path = _sub_path(mount, env)
        if sub_path:
            target = directory / "volume-subpaths" / mount.name / container.name / str(index)
            try:
                subpath.prepare(Path(path), sub_path, target)
            except (OSError, subpath.SubPathError) as error:
                raise MountError(
                    f'failed to prepare subPath for volumeMount "{mount.name}" of container "{container.name}": {error}'
                ) from error
            path = str(target)
        container_path = mount.mountPath if mount.mountPath.startswith("/") else "/" + mount.mountPath
        out.append(MountSpec(container_path, path, mount.readOnly, mount.mountPropagation, mount.recursiveReadOnly == "Enabled"))
    return out


def _sub_path(mount: VolumeMount, env: Mapping[str, str]) -> str:
    if not mount.subPathExpr:
        return mount.subPath
    missing: list[str] = []

    def lookup(name: str) -> str | None:
        if name not in env:
            missing.append(name)
        return env.get(name)

    sub_path = expand(mount.subPathExpr, lookup)
    if missing:
        raise MountError(f"missing value for {missing[0]!r}".replace("'", '"'))
    if os.path.isabs(sub_path) or ".." in Path(sub_path).parts:
        raise MountError(f"subPath {sub_path!r} must be a relative path without '..'")
    return sub_path


def _teardown(directory: Path) -> None:
    for point in mounts.below(directory):
        mounts.unmount(point)
    for name in ("volume-subpaths", "volumes"):
        with contextlib.suppress(FileNotFoundError):
            _remove_tree(directory / name)


def _remove(directory: Path) -> None:
    _teardown(directory)
    with contextlib.suppress(FileNotFoundError):
        _remove_tree(directory)


def _remove_tree(directory: Path) -> None:
    if mounts.below(directory):
        raise OSError(f"{directory} still has mounts below it")
    shutil.rmtree(directory)
