"""Brings one volume of each kind into being on the host. Blocking: called in a thread. Idempotent, and also the update.

Failures are OSError or ValueError with upstream's words; they go into the FailedMount event.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from minikube_py.kubelet import resources
from minikube_py.kubelet.volumes import atomic, mounts, ownership
from minikube_py.kubelet.volumes.content import Files
from minikube_py.meta import quantity
from minikube_py.types.pod import EmptyDirSource, HostPathSource, Pod, Volume

_TYPE_CHECKS = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket file"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


def empty_dir(pod: Pod, volume: Volume, source: EmptyDirSource, path: Path, ready: Path, memory: int) -> None:
    """A directory for the life of the pod. `ready` is a file that says that it was made: from then on its modes are the containers' to
    change. `memory` is what the node can give to pods, in bytes, which bounds one in memory."""
    in_memory = source.medium == "Memory"
    if source.medium not in ("", "Memory"):
        raise ValueError(f'unknown storage medium "{source.medium}"')
    if ready.exists() and (mounts.is_mount(path) if in_memory else path.is_dir()):
        return
    path.mkdir(parents=True, exist_ok=True)
    if in_memory and not mounts.is_mount(path):
        mounts.tmpfs(path, _memory_size(pod, source, memory))
    _open_to_everybody(path)
    if (group := pod.spec.securityContext.fsGroup) is not None:
        ownership.apply(path, group)
    ready.parent.mkdir(parents=True, exist_ok=True)
    ready.touch()


def _open_to_everybody(path: Path) -> None:
    """Let everybody write. What lies in memory is made so, with the sticky bit, which stays: nobody removes the files of others there."""
    if path.stat().st_mode & 0o777 != 0o777:
        path.chmod(0o777)


def _memory_size(pod: Pod, source: EmptyDirSource, memory: int) -> int:
    """The least of the volume's limit, the pod's memory and the node's."""
    limits = [memory, resources.pod_limits(pod).memory, quantity.parse(source.sizeLimit).value() if source.sizeLimit is not None else None]
    return min((limit for limit in limits if limit), default=0)


def files(pod: Pod, volume: Volume, content: Files, path: Path) -> None:
    """A volume whose files are made here. What may be secret lies in memory."""
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    group = pod.spec.securityContext.fsGroup
    if volume.configMap is None and not mounts.is_mount(path):
        mounts.tmpfs(path)
    if not (path / atomic.DATA).is_symlink():
        _open_to_everybody(path)
        for point in nested_mount_points(pod, volume.name):
            (path / point).mkdir(parents=True, exist_ok=True, mode=0o755)
        if group is not None:
            ownership.apply(path, group)
    atomic.write(path, content, group)


def nested_mount_points(pod: Pod, name: str) -> Iterator[str]:
    """Where containers mount something else below a volume, as paths in it: they must be there, since the volume is read-only."""
    for container in (*pod.spec.initContainers, *pod.spec.containers, *pod.spec.ephemeralContainers):
        points = sorted(os.path.normpath(mount.mountPath) for mount in container.volumeMounts)
        for own in (os.path.normpath(m.mountPath) for m in container.volumeMounts if m.name == name):
            if own.startswith("../"):
                raise ValueError(f"invalid container mount point {own}")
            nested: list[str] = []
            for point in points:
                if point.startswith(own + "/") and not any(point.startswith(above + "/") for above in nested):
                    nested.append(point)
                    yield point[len(own) + 1 :]


def host_path(source: HostPathSource) -> None:
    """Something of the host's own: made where the type says so, held to the type, never changed."""
    path, kind = Path(source.path), source.type
    if ".." in path.parts:
        raise ValueError(f"invalid HostPath `{source.path}`: must not contain '..'")
    if kind == "DirectoryOrCreate":
        if not path.exists():
            path.mkdir(parents=True, exist_ok=True, mode=0o755)
        kind = "Directory"
    elif kind == "FileOrCreate":
        if not path.exists():
            path.touch(mode=0o644)
        kind = "File"
    if not kind:
        return
    if kind not in _TYPE_CHECKS:
        raise ValueError(f"{kind} is an invalid volume type")
    check, problem = _TYPE_CHECKS[kind]
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = 0
    if not check(mode):
        raise ValueError(f"hostPath type check failed: {source.path} {problem}")
