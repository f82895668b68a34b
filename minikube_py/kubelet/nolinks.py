"""Opens what lies in a directory that a container may write to: no link that it puts there, at any moment, chooses what is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence


def open_below(root: str | os.PathLike[str], parts: Sequence[str]) -> int:
    """A descriptor for reading of what the path of `parts` names below `root`, the directory itself where there are none. Blocks.

    Raises OSError, also where one of the parts is a symbolic link. What would block when it is opened, as pipes do, does not.
    """
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for left, part in zip(reversed(range(len(parts))), parts, strict=True):
        kind = os.O_DIRECTORY if left else os.O_NONBLOCK
        try:
            deeper = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=current)
        finally:
            os.close(current)
        current = deeper
    return current
