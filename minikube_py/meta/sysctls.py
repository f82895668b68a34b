"""Names of kernel parameters, and the namespace that each belongs to. Upstream: component-helpers' node/util/sysctl."""

from __future__ import annotations

from typing import Final

IPC: Final = "IPC"
NET: Final = "Net"
_IPC_NAMES = frozenset(
    "kernel." + name for name in ("sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "shm", "msgmax", "msgmnb", "msgmni", "msg")
)


def normal(name: str) -> str:
    """The name with dots between its parts; one that is written with slashes may have dots within a part, which become slashes."""
    first = next((character for character in name if character in "./"), "")
    return name.translate(str.maketrans("./", "/.")) if first == "/" else name


def namespace(name: str) -> str:
    """IPC or NET for a name, or for what a pattern has before its *; empty where the kernel has no namespace for it."""
    if name in _IPC_NAMES or name.startswith("fs.mqueue."):
        return IPC
    return NET if name.startswith("net.") else ""
