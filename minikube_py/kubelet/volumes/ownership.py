"""fsGroup: a volume's files are made to belong to the pod's group. Blocking: called in a thread."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_FILE = 0o660
_DIRECTORY = 0o770 | stat.S_ISGID


def apply(directory: Path, group: int, policy: str = "") -> None:
    """Give the whole tree to the group, which may read and write it; with OnRootMismatch not if the top already looks so."""
    top = os.stat(directory)
    if policy == "OnRootMismatch" and top.st_gid == group and top.st_mode & _DIRECTORY == _DIRECTORY:
        return
    for parent, _, names in os.walk(directory, topdown=False):
        for name in names:
            path = os.path.join(parent, name)
            os.chown(path, -1, group, follow_symlinks=False)
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                os.chmod(path, stat.S_IMODE(mode) | _FILE)
        os.chown(parent, -1, group)
        os.chmod(parent, stat.S_IMODE(os.stat(parent).st_mode) | _DIRECTORY)
