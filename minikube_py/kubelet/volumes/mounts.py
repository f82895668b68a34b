"""The mount and unmount calls of Linux, as far as volumes need them. Blocking: called in a thread.

What always holds: no mount of the host's is ever taken away with one of ours. A bind mount of a shared one is its peer, so that what is
unmounted below it is unmounted in the original too; everything below a pod's directory is therefore made private before it is detached.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_ROUNDS = 16
_ESCAPE = re.compile(rb"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2). Raises OSError."""
    done = _libc.mount(os.fsencode(source), os.fsencode(target), kind.encode() or None, flags, os.fsencode(options) or None)
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def tmpfs(target: Path, size: int | None = None, mode: str = "") -> None:
    """A file system in memory, never swapped to a disk where the kernel can promise that (6.4); `size` in bytes bounds it."""
    options = [o for o in (f"size={size}" if size else "", f"mode={mode}" if mode else "") if o]
    if _kernel() >= (6, 4):  # an older one writes a line to its log for every option that it does not know
        try:
            mount("tmpfs", str(target), "tmpfs", 0, ",".join((*options, "noswap")))
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
    mount("tmpfs", str(target), "tmpfs", 0, ",".join(options))


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def bind(source: str, target: Path) -> None:
    """Show `source` at `target` too, without what is mounted below it."""
    mount(source, str(target), "", MS_BIND)


def unmount(target: Path) -> None:
    """Unmount, lazily where it is in use; what is not a mount point is left alone."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW) != 0:
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise OSError(number, os.strerror(number), str(target))


def unmount_below(directory: Path) -> None:
    """Detach every mount at and below a directory, and nothing elsewhere. Raises OSError when some stay."""
    for _ in range(_ROUNDS):  # what lies under another mount at the same place shows up in the next round
        points = below(directory)
        if not points:
            return
        for point in points:
            with contextlib.suppress(FileNotFoundError):
                _make_private(point)
        for point in points:
            unmount(point)
    raise OSError(errno.EBUSY, "there are always more mounts below it", str(directory))


def _make_private(point: Path) -> None:
    if _libc.mount(None, os.fsencode(point), None, MS_PRIVATE, None) != 0:
        number = ctypes.get_errno()
        if number != errno.EINVAL:  # which means that it is no mount point any more
            raise OSError(number, os.strerror(number), str(point))


def mount_id(descriptor: int) -> int:
    """Which mount an open file lies on. A bind mount of the same file system is another one."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as info:
        return next(int(line.split()[1]) for line in info if line.startswith("mnt_id:"))


def is_mount(path: Path) -> bool:
    """Whether something is mounted at the path; links are not followed."""
    try:
        here, parent = os.open(path, os.O_PATH | os.O_NOFOLLOW), os.open(path.parent, os.O_PATH)
    except FileNotFoundError:
        return False
    try:
        return mount_id(here) != mount_id(parent)
    finally:
        os.close(here)
        os.close(parent)


def below(directory: Path) -> list[Path]:
    """The mount points at and below a directory, the deepest first, whatever links lead to it."""
    top = Path(os.path.realpath(directory))
    found = [entry.point for entry in _table() if entry.point.is_relative_to(top)]
    return sorted(found, key=lambda p: len(p.parts), reverse=True)


def showing(directory: Path) -> list[Path]:
    """The mount points, other than the one that it lies on, where a directory can be seen as well."""
    path, table = Path(os.path.realpath(directory)), _table()
    home = next(entry for entry in reversed(table) if path.is_relative_to(entry.point))  # the last one mounted is what is seen
    root = home.root / path.relative_to(home.point)
    return [entry.point for entry in table if entry.id != home.id and entry.device == home.device and entry.root == root]


class _Entry(NamedTuple):
    id: bytes
    device: bytes
    root: Path
    """What of the file system is mounted."""
    point: Path


def _table() -> list[_Entry]:
    with open("/proc/self/mountinfo", "rb") as table:
        fields = [line.split(b" ", 5) for line in table]
    return [_Entry(id_, device, _path(root), _path(point)) for id_, _, device, root, point, _ in fields]


def _path(field: bytes) -> Path:
    return Path(os.fsdecode(_ESCAPE.sub(lambda match: bytes((int(match[1], 8),)), field)))
