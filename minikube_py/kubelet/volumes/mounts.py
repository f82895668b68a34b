"""The mount and unmount calls of Linux, as far as volumes need them. Blocking: called in a thread."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

MS_BIND = 0x1000
MS_REMOUNT = 0x20
MS_RDONLY = 0x1
MS_PRIVATE = 1 << 18
MS_REC = 0x4000
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    done = _libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, options.encode() or None)
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def tmpfs(target: Path, size: int | None = None, mode: str = "") -> None:
    """A file system in memory; `size` in bytes bounds it."""
    options = ",".join(o for o in (f"size={size}" if size else "", f"mode={mode}" if mode else "") if o)
    mount("tmpfs", str(target), "tmpfs", 0, options)


def bind(source: str, target: Path) -> None:
    """Show `source` at `target` too."""
    mount(source, str(target), "", MS_BIND | MS_REC)


def unmount(target: Path) -> None:
    """Unmount, lazily where it is in use; what is not a mount point is left alone."""
    if _libc.umount2(str(target).encode(), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise OSError(number, os.strerror(number), str(target))


def is_mount(path: Path) -> bool:
    """Whether a file system of its own begins at the path (a bind mount of the same one does not count)."""
    try:
        return os.lstat(path).st_dev != os.lstat(path.parent).st_dev
    except FileNotFoundError:
        return False


def below(directory: Path) -> list[Path]:
    """The mount points at and below a directory, the deepest first."""
    prefix = str(directory)
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            point = line.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
            if point == prefix or point.startswith(prefix + "/"):
                found.append(Path(point))
    return sorted(found, key=lambda p: len(p.parts), reverse=True)
