"""What a cgroup is limited to, in the same words on version 1 and version 2: the tests' own reading, not the product's."""

from __future__ import annotations

from pathlib import Path

_TOP = Path("/sys/fs/cgroup")
V2 = (_TOP / "cgroup.controllers").exists()

INSIDE = (
    "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu.weight"
    if V2
    else "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares"
)
"""A shell command that prints what `limits` gives; for a container, which sees its own cgroup as the topmost one."""


def directory(name: str, controller: str = "memory") -> Path:
    """Where a cgroup is: that of version 2, or the controller's of version 1."""
    return _TOP / ("" if V2 else controller) / name.strip("/")


def limits(memory: int, quota: int, shares: int) -> str:
    """What INSIDE prints for a limit in bytes, a quota in microseconds of 100 ms, and shares as version 1 has them."""
    share = 1 + ((shares - 2) * 9999) // 262142 if V2 else shares
    return f"{memory}\n{quota} 100000\n{share}\n" if V2 else f"{memory}\n{quota}\n100000\n{share}\n"


def of(name: str) -> str:
    """What a cgroup of this machine is limited to, in the words of `limits`."""
    if V2:
        return "".join((directory(name) / file).read_text() for file in ("memory.max", "cpu.max", "cpu.weight"))
    files = (("memory", "memory.limit_in_bytes"), ("cpu", "cpu.cfs_quota_us"), ("cpu", "cpu.cfs_period_us"), ("cpu", "cpu.shares"))
    return "".join((directory(name, controller) / file).read_text() for controller, file in files)
