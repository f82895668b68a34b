"""What a process and all its children take, as the kernel counts it: memory, processor time, bytes to disk, wake-ups.

containerd is left out, and what it starts: it is counted as the machine's. What a child took that has ended meanwhile is in its parent's
count of processor time and bytes, once it was waited for.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MIB = 1 << 20
_TICK = os.sysconf("SC_CLK_TCK")
_FOREIGN = ("containerd", "containerd-shim")


class Usage(NamedTuple):
    """The counters of a tree at one time, all since its processes began."""

    at: float
    """Seconds on a monotonic clock."""
    cpu: float
    """Seconds of processor time, user and system."""
    written: int
    """Bytes that went, or will go, to a disk."""
    wakeups: int
    """How often a thread stopped waiting."""


class Rates(NamedTuple):
    """What happened between two usages, a second."""

    cpu: float
    """As a share of one core."""
    written: float
    wakeups: float


def pids(root: int) -> Iterator[int]:
    """A process and all below it, without containerd."""
    yield root
    for task in _numbers(f"/proc/{root}/task"):
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{root}/task/{task}/children").read_text().split():
                if not _name(int(child)).startswith(_FOREIGN):
                    yield from pids(int(child))


def memory(root: int) -> dict[int, int]:
    """PSS in bytes by process: its own memory, and its share of what it shares with others."""
    found = {}
    for pid in pids(root):
        with contextlib.suppress(OSError):
            found[pid] = _value(Path(f"/proc/{pid}/smaps_rollup").read_text(), "Pss:") * 1024
    return found


def usage(root: int) -> Usage:
    """The counters now."""
    cpu, written, wakeups = 0.0, 0, 0
    for pid in pids(root):
        with contextlib.suppress(OSError):
            times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
            cpu += sum(map(int, times)) / _TICK
            written += _value(Path(f"/proc/{pid}/io").read_text(), "write_bytes:")
            for task in _numbers(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):
                    wakeups += _value(Path(f"/proc/{pid}/task/{task}/status").read_text(), "voluntary_ctxt_switches:")
    return Usage(time.monotonic(), cpu, written, wakeups)


def rates(before: Usage, after: Usage) -> Rates:
    """What happened between the two."""
    seconds = after.at - before.at
    return Rates(*((b - a) / seconds for a, b in zip(before[1:], after[1:], strict=True)))


def _numbers(directory: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(directory)]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _value(text: str, label: str) -> int:
    """The number behind a label at the beginning of a line."""
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(label))
