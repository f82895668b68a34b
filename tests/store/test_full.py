"""A full file system: writes are refused and leave nothing, reads go on, and writes work again once there is space."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikube_py.store.api import Durability, StoreError, StoreFull, Write
from minikube_py.store.writer import Limits

from .conftest import Open
from .invariants import check

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two mebibytes."""
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(mount)], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def fill_up(directory: Path) -> Path:
    """Take all the space that is left."""
    path = directory / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return path


async def test_writes_fail_reads_go_on_and_writes_work_again(small_disk: Path, open_store: Open) -> None:
    store = await open_store(small_disk / "data")
    await store.commit(Write("/r/a", 0, b"a" * 5000))
    filler = fill_up(small_disk)
    refused = 0
    for number in range(100):
        try:
            await store.commit(Write(f"/r/{number}", 0, b"x" * 20_000))
        except StoreFull as error:
            assert "make space" in str(error)
            refused += 1
    assert refused > 90
    before = store.revision
    with pytest.raises(StoreFull):
        await store.commit(Write("/r/a", 1, b"a" * 100_000))
    assert store.revision == before
    found = await store.get("/r/a")
    assert found is not None
    assert found.revision == 1
    filler.unlink()
    for number in range(200, 230):
        await store.commit(Write(f"/r/{number}", 0, b"x" * 5000))
    assert store.revision == before + 30
    await asyncio.to_thread(check, small_disk / "data")
    await store.close()
    store = await open_store(small_disk / "data")
    assert len((await store.range("/r/2")).records) >= 30
    await store.close()
    await asyncio.to_thread(check, small_disk / "data")


async def test_relaxed_writes_wait_in_memory_up_to_a_bound(small_disk: Path, open_store: Open) -> None:
    store = await open_store(small_disk / "data", limits=Limits(flush_interval=0.02, flush_bytes=20_000))
    await store.commit(Write("/r/a", 0, b"a"))
    first = await store.commit(Write("/e/0", 0, b"e" * 2000, "", Durability.RELAXED))
    await store.flush()
    filler = fill_up(small_disk)
    written = [first]
    with pytest.raises(StoreFull):
        for number in range(1, 200):
            written.append(await store.commit(Write(f"/e/{number}", 0, b"e" * 2000, "", Durability.RELAXED)))
            await store.flush()
    assert 10 < len(written) < 100
    assert len((await store.range("/e/")).records) == len(written)
    filler.unlink()
    await store.flush()
    written.append(await store.commit(Write("/e/last", 0, b"e", "", Durability.RELAXED)))
    await store.close()
    store = await open_store(small_disk / "data")
    assert {r.revision for r in (await store.range("/e/")).records} == {r.revision for r in written}
    await store.close()
    await asyncio.to_thread(check, small_disk / "data")


async def test_a_close_on_a_full_disk_says_so_and_loses_no_durable_write(small_disk: Path, open_store: Open) -> None:
    store = await open_store(small_disk / "data")
    await store.commit(Write("/r/a", 0, b"a"))
    await store.commit(Write("/e/a", 0, b"e" * 100_000, "", Durability.RELAXED))
    filler = fill_up(small_disk)
    with pytest.raises(StoreError):
        await store.close()
    filler.unlink()
    store = await open_store(small_disk / "data")
    assert not store.clean_start
    assert store.revision > 2
    assert await store.get("/r/a") is not None
    await store.close()
