"""Keeps transparent huge pages out of this process.

Where the machine's default is `always`, the kernel backs every heap with pages of 2 MiB, and an interpreter's, which is full of small
holes, takes a fifth more memory for it. The setting is inherited by children; what is started for others is started without it.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

_PR_SET_THP_DISABLE, _PR_GET_THP_DISABLE = 41, 42


def avoid() -> None:
    """No huge pages from now on, for this process and the children that it starts."""
    _set(1)


@contextlib.contextmanager
def left_to_children() -> Iterator[None]:
    """What is started within this context goes by the machine's default."""
    disabled = ctypes.CDLL(None).prctl(_PR_GET_THP_DISABLE, 0, 0, 0, 0)
    _set(0)
    try:
        yield
    finally:
        _set(max(disabled, 0))


def _set(disabled: int) -> None:
    """A kernel without the setting has nothing to disable."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, disabled, 0, 0, 0)
