"""Parts of volumes: subPath, without ever leaving the volume by a link that a container has planted there.

The part is opened component by component without following links and is then bound by its descriptor, so that what is mounted is what was
checked. Links inside the volume are resolved first and must end inside it. Blocking: called in a thread.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from minikube_py.kubelet.volumes import mounts


class SubPathError(Exception):
    """The path leaves the volume or cannot be made; the message goes into the container's event."""


def prepare(volume: Path, sub_path: str, target: Path) -> None:
    """Bind `sub_path` of the volume to `target`; a directory is made where nothing is."""
    if target.exists() and target in mounts.below(target):
        return
    parts = _resolved(volume, sub_path)
    descriptor = _open(volume, parts)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        mounts.bind(f"/proc/self/fd/{descriptor}", target)
    finally:
        os.close(descriptor)


def _resolved(volume: Path, sub_path: str) -> tuple[str, ...]:
    base = os.path.realpath(volume)
    wanted = os.path.realpath(os.path.join(base, sub_path))
    if wanted != base and not wanted.startswith(base + os.sep):
        raise SubPathError(f'subpath "{sub_path}" not within volume path "{base}"')
    relative = os.path.relpath(wanted, base)
    return () if relative == "." else Path(relative).parts


def _open(volume: Path, parts: tuple[str, ...]) -> int:
    mode = stat.S_IMODE(os.stat(volume).st_mode)
    current = os.open(os.path.realpath(volume), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for index, part in enumerate(parts):
            try:
                following = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=current)
            except FileNotFoundError:
                os.mkdir(part, mode, dir_fd=current)
                following = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=current)
                os.chmod(f"/proc/self/fd/{following}", mode)
            os.close(current)
            current = following
            kind = os.fstat(current).st_mode
            if stat.S_ISLNK(kind):
                raise SubPathError(f"subpath component {part} has become a symbolic link")
            if index < len(parts) - 1 and not stat.S_ISDIR(kind):
                raise SubPathError(f"subpath component {part} is not a directory")
    except BaseException:
        os.close(current)
        raise
    return current
