"""What a pod uses of the node, as frozen values: memory, processes, and local storage by container and volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Disk(NamedTuple):
    """What files take: bytes and inodes."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: tuple[int, ...]) -> Disk:  # type: ignore[override]
        """Both together."""
        return Disk(self[0] + other[0], self[1] + other[1])


class ContainerUsage(NamedTuple):
    """One container: its working set in bytes, its writable layer, its logs."""

    name: str
    memory: int = 0
    rootfs: Disk = Disk()
    logs: Disk = Disk()


class PodUsage(NamedTuple):
    """One pod: its working set in bytes, its processes and threads, its containers, its local volumes by name."""

    memory: int = 0
    processes: int = 0
    containers: tuple[ContainerUsage, ...] = ()
    volumes: Mapping[str, Disk] = {}

    @property
    def storage(self) -> int:
        """All local storage in bytes."""
        return sum(c.rootfs.bytes + c.logs.bytes for c in self.containers) + sum(v.bytes for v in self.volumes.values())
