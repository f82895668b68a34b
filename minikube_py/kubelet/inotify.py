"""Waits for changes in a directory by the kernel's inotify, without looking again and again."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
from pathlib import Path

_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
_IN_MODIFY, _IN_CLOSE_WRITE, _IN_MOVED_FROM, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x8, 0x40, 0x80, 0x100
_IN_DELETE, _IN_DELETE_SELF, _IN_MOVE_SELF, _IN_ONLYDIR = 0x200, 0x400, 0x800, 0x1000000
FILES = _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
"""A file was written to its end, comes or goes, or the directory itself goes."""
GROWTH = _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO | _IN_DELETE_SELF
"""A file has more in it, or there is a new one."""

_libc = ctypes.CDLL(None, use_errno=True)


class DirectoryWatch:
    """Sets `changed` whenever what is asked for (FILES or GROWTH) happens in the directory. Raises OSError."""

    def __init__(self, directory: Path, wanted: int = FILES) -> None:
        self.changed = asyncio.Event()
        self._descriptor = _libc.inotify_init1(_NONBLOCK_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        if _libc.inotify_add_watch(self._descriptor, os.fsencode(directory), wanted) < 0:
            number = ctypes.get_errno()
            os.close(self._descriptor)
            raise OSError(number, os.strerror(number), str(directory))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._readable)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._descriptor, 4096):
                self.changed.set()

    def close(self) -> None:
        """Watch no more."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
