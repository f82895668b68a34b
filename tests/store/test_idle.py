"""What an idle cluster costs the disk: a node lease every ten seconds, and the floors that move."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikube_py.store.api import Durability, Write

from .conftest import Open

LEASE = (
    b'{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"node-1","namespace":"kube-node-lease",' + b'"x":"y",' * 60
)


def bytes_written() -> int:
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise AssertionError("no write_bytes")


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a disk, wherever other tests have theirs: in memory nothing is written that counts."""
    with tempfile.TemporaryDirectory(prefix="minikube-py-", dir="/var/tmp") as directory:
        yield Path(directory)


async def test_an_hour_of_one_node_stays_under_the_budget(disk: Path, open_store: Open) -> None:
    store = await open_store(disk / "data")
    record = await store.commit(Write("/registry/coordination.k8s.io/leases/kube-node-lease/node-1", 0, LEASE, "kubelet"))
    for number in range(200):
        await store.commit(Write(f"/registry/core/configmaps/default/{number}", 0, b"x" * 2000, "someone"))
    await store.close()
    store = await open_store(disk / "data")
    os.sync()
    before = bytes_written()
    probe = disk / "probe"
    probe.write_bytes(b"x" * 100_000)
    if bytes_written() - before < 100_000:
        pytest.skip("this file system's writes are not counted")
    before = bytes_written()
    seconds = 3600
    previous = floor = store.revision
    for second in range(0, seconds, 10):
        # Ten seconds pass between renewals, a minute between flushes, five minutes between compactions.
        record = await store.commit(Write(record.key, record.revision, LEASE + b"%d}" % second, "kubelet", Durability.RELAXED))
        if second % 60 == 50:
            await store.flush()
        if second % 300 == 290:
            floor, previous = previous, store.revision
            await store.compact(floor)
            await store.compact_history(floor)
    rate = (bytes_written() - before) / seconds
    print(f"{rate:.0f} bytes/s")
    assert rate < 600
