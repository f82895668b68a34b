"""Parts of volumes: subPath, without ever leaving the volume by a link that a container has planted there.

The part is opened component by component without following links and is then bound by its descriptor, so that what is mounted is what was
checked. Links inside the volume are resolved first and must end inside it. Blocking: called in a thread.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from minikube_py.kubelet.volumes import mounts


class SubPathError(Exception):
    """The path leaves the volume or cannot be made. For the log: what it says of the host's files is not a pod's to know."""


def prepare(volume: Path, sub_path: str, target: Path, *, create: bool = True) -> None:
    """Bind `sub_path` of the volume to `target`, instead of what is bound there from a time when the path led elsewhere.

    Where nothing is a directory is made, with the mode of the volume; not so without `create`, where the path must be a directory that is
    there. Raises SubPathError, OSError."""
    descriptor = _open(volume, _resolved(volume, sub_path), create)
    try:
        found = os.fstat(descriptor)
        if not create and not stat.S_ISDIR(found.st_mode):
            raise SubPathError(f'only directory subpath is supported, subpath: "{sub_path}", mountpoint: "{volume}"')
        if mounts.is_mount(target):
            if (found.st_dev, found.st_ino) == _identity(target):
                return
            mounts.unmount(target)
        _make_target(target, directory=stat.S_ISDIR(found.st_mode))
        mounts.bind(f"/proc/self/fd/{descriptor}", target)
    finally:
        os.close(descriptor)


def _identity(path: Path) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _make_target(target: Path, *, directory: bool) -> None:
    """Something of the right form to mount on; any file will do for what is not a directory."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(os.lstat(target).st_mode) == directory:
            return
        target.rmdir() if not directory else target.unlink()
    target.mkdir(mode=0o750) if directory else target.touch(mode=0o640)


def _resolved(volume: Path, sub_path: str) -> tuple[str, ...]:
    base = os.path.realpath(volume)
    wanted = os.path.realpath(os.path.join(base, sub_path))
    if wanted != base and not wanted.startswith(base + os.sep):
        raise SubPathError(f'subpath "{sub_path}" not within volume path "{base}"')
    relative = os.path.relpath(wanted, base)
    return () if relative == "." else Path(relative).parts


def _open(volume: Path, parts: tuple[str, ...], create: bool) -> int:
    """Open the parts one after another, from the volume down; the last one's descriptor."""
    mode = stat.S_IMODE(os.stat(volume).st_mode)
    current = os.open(os.path.realpath(volume), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for index, part in enumerate(parts):
            with contextlib.suppress(OSError):  # the slash has an automounter mount what belongs there
                os.stat(part + "/", dir_fd=current, follow_symlinks=False)
            try:
                following = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=current)
            except FileNotFoundError:
                if not create:
                    raise
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, mode, dir_fd=current)
                following = os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=current)
                if stat.S_ISDIR(os.fstat(following).st_mode):
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
