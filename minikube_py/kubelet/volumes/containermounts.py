"""What a container sees of its pod's volumes: its mounts, with subPaths prepared and read-only modes resolved, and its raw devices."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from minikube_py.kubelet.containers import DeviceSpec, MountSpec
from minikube_py.kubelet.env import expand
from minikube_py.kubelet.volumes import content, subpath
from minikube_py.types.pod import Container, Pod, Volume, VolumeMount

log = logging.getLogger(__name__)


class MountError(Exception):
    """A container's mount cannot be made: it waits with CreateContainerConfigError and this message."""


class ImageMountError(MountError):
    """An image volume cannot be mounted: the container waits with CreateContainerError."""


async def container_mounts(
    pod: Pod, container: Container, directory: Path, paths: Mapping[str, str], env: Mapping[str, str], recursive_read_only: bool = False
) -> list[MountSpec]:
    """The container's mounts of volumes, subPaths prepared. `recursive_read_only` is whether the runtime can. Raises MountError."""
    return await asyncio.to_thread(_container_mounts, pod, container, directory, paths, env, recursive_read_only)


def _container_mounts(
    pod: Pod, container: Container, directory: Path, paths: Mapping[str, str], env: Mapping[str, str], can_recurse: bool
) -> list[MountSpec]:
    out: list[MountSpec] = []
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    for index, mount in enumerate(container.volumeMounts):
        path, volume = paths.get(mount.name), volumes.get(mount.name)
        if path is None or volume is None:
            raise MountError(f'cannot find volume "{mount.name}" to mount into container "{container.name}"')
        if sub_path := resolve_sub_path(mount, env):
            target = directory / "volume-subpaths" / mount.name / container.name / str(index)
            _bind_part(volume, mount, container, Path(path), sub_path, target)
            path = str(target)
        container_path = mount.mountPath if mount.mountPath.startswith("/") else "/" + mount.mountPath
        read_only = mount.readOnly or _always_read_only(volume)
        recursive = resolve_recursive_read_only(mount, can_recurse)
        out.append(MountSpec(container_path, path, read_only, mount.mountPropagation, recursive))
    return out


def container_devices(pod: Pod, container: Container, paths: Mapping[str, str]) -> list[DeviceSpec]:
    """The container's raw devices. Raises MountError."""
    volumes = {volume.name: volume for volume in pod.spec.volumes}
    out: list[DeviceSpec] = []
    for device in container.volumeDevices:
        if not os.path.isabs(device.devicePath):
            raise MountError(f"error DevicePath `{device.devicePath}` must be an absolute path")
        path, volume = paths.get(device.name), volumes.get(device.name)
        if path is None or volume is None:
            raise MountError(f'cannot find volume "{device.name}" to pass into container "{container.name}"')
        claim = volume.persistentVolumeClaim
        out.append(DeviceSpec(device.devicePath, path, "r" if claim is not None and claim.readOnly else "mrw"))
    return out


def _always_read_only(volume: Volume) -> bool:
    claim = volume.persistentVolumeClaim
    return content.has_content(volume) or volume.image is not None or (claim is not None and claim.readOnly)


def _bind_part(volume: Volume, mount: VolumeMount, container: Container, path: Path, sub_path: str, target: Path) -> None:
    try:
        subpath.prepare(path, sub_path, target, create=volume.image is None)
    except (OSError, subpath.SubPathError) as error:
        if volume.image is not None:
            reason = f'failed to ensure image subpath "{sub_path}" in "{path}": {error}'
            raise ImageMountError(f"ImageVolumeMountFailed: {reason}") from error
        # what is wrong stays in the log: it could tell of the host's files
        log.warning("subPath not prepared", extra={"volume": mount.name, "container": container.name, "error": str(error)})
        message = f'failed to prepare subPath for volumeMount "{mount.name}" of container "{container.name}"'
        raise MountError(message) from error


def resolve_sub_path(mount: VolumeMount, env: Mapping[str, str]) -> str:
    """The mount's subPath, its expression expanded. Raises MountError for what is missing, absolute, or goes up."""
    sub_path = mount.subPath
    if mount.subPathExpr:
        missing: list[str] = []

        def lookup(name: str) -> str | None:
            if name not in env:
                missing.append(name)
            return env.get(name)

        sub_path = expand(mount.subPathExpr, lookup)
        if missing:
            raise MountError('missing value for "' + ", ".join(missing) + '"')
    if os.path.isabs(sub_path):
        raise MountError(f"error SubPath `{sub_path}` must not be an absolute path")
    if ".." in sub_path.split("/"):
        raise MountError(f"unable to provision SubPath `{sub_path}`: must not contain '..'")
    return sub_path


def resolve_recursive_read_only(mount: VolumeMount, can_recurse: bool) -> bool:
    """Whether what is mounted below the volume is read-only too. Raises MountError with upstream's words."""
    mode, wanted = mount.recursiveReadOnly, f'volume "{mount.name}" requested recursive read-only mode, but it is'
    problem = ""
    if mode in ("", "Disabled"):
        return False
    if not mount.readOnly:
        problem = f"{wanted} not read-only"
    elif mount.mountPropagation not in ("", "None"):
        problem = f'{wanted} not compatible with propagation "{mount.mountPropagation}"'
    elif mode == "Enabled" and not can_recurse:
        problem = f"{wanted} not supported by the runtime"
    elif mode not in ("Enabled", "IfPossible"):
        problem = f'unknown recursive read-only mode "{mode}"'
    if problem:
        raise MountError(f"failed to resolve recursive read-only mode: {problem}")
    return can_recurse
