"""Relaxed writes: acknowledged from memory, seen by every read, written down by time, by size and at the end."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from minikube_py.store.api import Durability, StoreClosed, Write
from minikube_py.store.sqlite import SQLiteStore
from minikube_py.store.writer import Limits

from .conftest import Open


def rows(directory: Path) -> list[tuple[str, int, int]]:
    """(key, revision, prev_revision) of what is on disk."""
    connection = sqlite3.connect(f"file:{directory}/log.db?mode=ro", uri=True)
    try:
        return connection.execute("SELECT key, revision, prev_revision FROM log ORDER BY revision").fetchall()
    finally:
        connection.close()


def relaxed(key: str, expected: int, value: bytes | None) -> Write:
    return Write(key, expected, value, "kubelet", Durability.RELAXED)


async def until_on_disk(directory: Path, count: int) -> list[tuple[str, int, int]]:
    async with asyncio.timeout(5):
        while len(found := await asyncio.to_thread(rows, directory)) < count:  # noqa: ASYNC110 - what is on disk tells nobody
            await asyncio.sleep(0.01)
    return found


async def test_renewals_are_melted_into_one_row(tmp_path: Path, store: SQLiteStore) -> None:
    await store.commit(Write("/l/a", 0, b"first"))
    for number in range(1, 10):
        await store.commit(relaxed("/l/a", number, b"%d" % number))
    assert await asyncio.to_thread(rows, tmp_path / "data") == [("/l/a", 1, 0)]
    found = await store.get("/l/a", revision=5)
    assert found is not None
    assert found.value == b"4"
    assert [[r.revision for r in batch] async for batch in store.since("/l/", 3, 10)] == [[4, 5, 6, 7, 8, 9, 10]]
    await store.flush()
    assert await asyncio.to_thread(rows, tmp_path / "data") == [("/l/a", 1, 0), ("/l/a", 10, 1)]
    found = await store.get("/l/a", revision=5)
    assert found is not None
    assert found.value == b"4", "what was melted away can be read until the floor passes it"
    await store.compact(10)
    assert [r.value for r in (await store.range("/l/")).records] == [b"9"]


async def test_a_deleted_object_and_its_namesake_stay_two(tmp_path: Path, store: SQLiteStore) -> None:
    await store.commit(relaxed("/e/a", 0, b"one"))
    await store.commit(relaxed("/e/a", 1, None))
    await store.commit(relaxed("/e/a", 0, b"two"))
    await store.flush()
    assert await asyncio.to_thread(rows, tmp_path / "data") == [("/e/a", 2, 0), ("/e/a", 3, 0)]
    assert [[(r.revision, r.deleted) for r in b] async for b in store.since("/e/", 0, 3)] == [[(1, False), (2, True), (3, False)]]


async def test_a_durable_write_takes_the_relaxed_one_before_it_along(tmp_path: Path, store: SQLiteStore) -> None:
    await store.commit(relaxed("/e/a", 0, b"one"))
    await store.commit(relaxed("/e/b", 0, b"other"))
    await store.commit(Write("/e/a", 1, b"two"))
    assert await asyncio.to_thread(rows, tmp_path / "data") == [("/e/a", 1, 0), ("/e/a", 3, 1)]


async def test_they_are_written_down_after_a_while(tmp_path: Path, open_store: Open) -> None:
    store = await open_store(limits=Limits(flush_interval=0.05))
    for name in "ab":
        await store.commit(relaxed(f"/e/{name}", 0, b"x"))
    assert await asyncio.to_thread(rows, tmp_path / "data") == []
    assert await until_on_disk(tmp_path / "data", 2) == [("/e/a", 1, 0), ("/e/b", 2, 0)]
    await store.commit(relaxed("/e/c", 0, b"x"))
    await until_on_disk(tmp_path / "data", 3)


async def test_they_are_written_down_when_they_are_many(tmp_path: Path, open_store: Open) -> None:
    store = await open_store(limits=Limits(flush_bytes=10_000))
    for number in range(8):
        await store.commit(relaxed(f"/e/{number}", 0, b"x" * 1500))
    assert len(await until_on_disk(tmp_path / "data", 6)) >= 6


async def test_shadows_are_bounded(store: SQLiteStore) -> None:
    for number in range(3000):
        await store.commit(relaxed("/l/a", number, b"x" * 3000))
    held = store._writer.relaxed
    assert held._shadow_bytes <= 4 << 20
    assert len(held._versions["/l/a"]) < 1500
    assert (await store.get("/l/a")) is not None


async def test_nobody_waits_for_a_writer_that_has_failed(store: SQLiteStore, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("a fault of the program")

    store._writer._take = fails  # type: ignore[method-assign, assignment]
    with pytest.raises(StoreClosed):
        await asyncio.wait_for(store.commit(Write("/r/a", 0, b"x")), 5)
    with pytest.raises(StoreClosed):
        await store.commit(Write("/r/b", 0, b"x"))
    assert "no more writes are taken" in caplog.text
