"""fsGroup: a volume's files are made to belong to the pod's group. Blocking: called in a thread.

A container may change the tree meanwhile, so nothing is changed by its name: each entry is opened without following links first.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_READ_WRITE, _READ = 0o660, 0o440
_ENTER = 0o110 | stat.S_ISGID


def apply(directory: Path, group: int, policy: str = "", *, read_only: bool = False) -> None:
    """Give the whole tree to the group, which may read it, and write it unless `read_only`; what is mounted in it is part of the tree.

    With OnRootMismatch nothing is done where the top already looks so."""
    wanted = _READ if read_only else _READ_WRITE
    top = os.stat(directory)
    if policy == "OnRootMismatch" and top.st_gid == group and top.st_mode & (wanted | _ENTER) == wanted | _ENTER:
        return
    for _, directories, names, descriptor in os.fwalk(directory, topdown=False):
        for name in (*directories, *names):  # a link to a directory is among the directories; those that are none are done on their own
            with contextlib.suppress(FileNotFoundError):
                entry = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=descriptor)
                try:
                    if not stat.S_ISDIR(os.fstat(entry).st_mode):
                        _change(entry, group, wanted)
                finally:
                    os.close(entry)
        _change(descriptor, group, wanted | _ENTER)


def _change(descriptor: int, group: int, wanted: int) -> None:
    """Change what is open. The mode of a link means nothing, and setting it would be setting its target's."""
    here = f"/proc/self/fd/{descriptor}"
    mode = os.fstat(descriptor).st_mode
    os.chown(here, -1, group)
    if not stat.S_ISLNK(mode):
        os.chmod(here, stat.S_IMODE(mode) | wanted)
