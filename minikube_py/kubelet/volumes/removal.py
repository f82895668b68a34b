"""Removes directories, and never what is mounted in them: the data of a user's that a pod has seen stays, whatever went wrong before.

A mount table that was read a moment ago is no proof, and one that is read under another name finds nothing. So every directory is opened
without following links, and asked for the mount that it lies on, before anything in it is touched; one that lies on another mount than the
directory's parent ends the removal. The kernel refuses to unlink a mount point itself. Blocking: called in a thread.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from minikube_py.kubelet.volumes.mounts import mount_id

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class StillMounted(OSError):
    """Something is mounted in the directory; nothing below the mount was touched."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EBUSY, "a file system is still mounted here, so it is not removed", path)


def remove_tree(directory: Path) -> None:
    """Remove a directory and all that lies in it; one that does not exist is fine. Raises StillMounted, OSError.

    Goes up and down by "..", one descriptor at a time, so that a container cannot make the tree too deep for it.
    """
    parent = os.open(directory.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        home = mount_id(parent)
        try:
            current = _enter(directory.name, parent, home, str(directory))
        except FileNotFoundError:
            return
        current = _empty(current, home, str(directory))
        os.close(current)
        os.rmdir(directory.name, dir_fd=parent)
    finally:
        os.close(parent)


def _empty(current: int, home: int, where: str) -> int:
    """Empty an open directory; the descriptor of it afterwards."""
    above: list[tuple[str, tuple[int, int]]] = []  # the name of each directory that we are in, and which directory has it
    try:
        while True:
            if (name := _clear(current, where)) is not None:
                above.append((name, _identity(current)))
                current, left = _enter(name, current, home, "/".join((where, *(n for n, _ in above)))), current
                os.close(left)
            elif above:
                name, identity = above.pop()
                current, left = os.open("..", _OPEN, dir_fd=current), current
                os.close(left)
                if _identity(current) != identity:
                    raise OSError(errno.ESTALE, "the directory was moved while it was removed", where)
                os.rmdir(name, dir_fd=current)
            else:
                return current
    except BaseException:
        os.close(current)
        raise


def _clear(current: int, where: str) -> str | None:
    """Remove the files of a directory; the first directory in it, if there is one."""
    with os.scandir(current) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                return entry.name
            try:
                os.unlink(entry.name, dir_fd=current)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    raise StillMounted(f"{where}/**/{entry.name}") from error
                raise
    return None


def _enter(name: str, parent: int, home: int, where: str) -> int:
    descriptor = os.open(name, _OPEN, dir_fd=parent)
    if mount_id(descriptor) != home:
        os.close(descriptor)
        raise StillMounted(where)
    return descriptor


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
