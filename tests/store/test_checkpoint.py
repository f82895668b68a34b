"""Checkpoints under load: they go on beside the commits, and the write-ahead log stays short all the same."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from minikube_py.store import compaction
from minikube_py.store.api import Write
from minikube_py.store.sqlite import SQLiteStore
from tests.support.waiting import until

from .conftest import Open

BOUND = (8_000 + 3_000) * 4_120
"""Bytes of the write-ahead log: where commits wait, and the largest batch."""


async def load(store: SQLiteStore, writers: int, puts: int, prefix: str = "") -> None:
    async def write(number: int) -> None:
        for count in range(puts):
            await store.commit(Write(f"/r/{prefix}{number}/{count}", 0, b"x" * 5_600))

    await asyncio.gather(*(write(number) for number in range(writers)))


class Held(NamedTuple):
    """Copies beside the commits wait for `go`; `done` has the thread of each checkpoint and the frames that it left."""

    go: threading.Event
    done: list[tuple[str, int]]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held, whole = Held(threading.Event(), []), compaction.checkpoint

    def checkpoint(connection: sqlite3.Connection) -> int:
        name = threading.current_thread().name
        if name == "store-checkpoint":
            held.go.wait(60)
        left = whole(connection)
        held.done.append((name, left))
        return left

    monkeypatch.setattr(compaction, "checkpoint", checkpoint)
    return held


async def test_the_write_ahead_log_is_bounded_under_load(tmp_path: Path, store: SQLiteStore) -> None:
    await load(store, 100, 120)
    assert 0 < (tmp_path / "data" / "log.db-wal").stat().st_size < BOUND
    assert len((await store.range("/r/")).records) == 12_000


async def test_commits_go_on_during_a_copy_and_wait_where_it_is_too_slow(tmp_path: Path, store: SQLiteStore, held: Held) -> None:
    busy = asyncio.create_task(load(store, 100, 60))
    before = -1
    while store.revision != before:
        before = store.revision
        await asyncio.sleep(1)
    assert not busy.done(), "they wait now"
    assert 2_000 < store.revision < 6_000
    assert (tmp_path / "data" / "log.db-wal").stat().st_size < BOUND
    held.go.set()
    await busy
    assert store.revision == 6_000


async def test_a_copy_that_ends_after_the_last_commit_is_followed_by_a_checkpoint(store: SQLiteStore, held: Held) -> None:
    await load(store, 100, 22)
    assert held.done == []
    held.go.set()
    await until(lambda: len(held.done) == 3)
    assert held.done == [("store-checkpoint", 0), ("store-checkpoint", 0), ("store-writer", 0)]


async def test_a_close_during_a_copy_leaves_one_file(tmp_path: Path, open_store: Open, store: SQLiteStore, held: Held) -> None:
    await load(store, 100, 22)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0.2)
    assert not closing.done()
    held.go.set()
    await closing
    assert not (tmp_path / "data" / "log.db-wal").exists()
    again = await open_store()
    assert again.clean_start
    assert len((await again.range("/r/")).records) == 2_200


async def test_a_copy_that_fails_disturbs_nobody(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, failed = compaction.checkpoint, 0

    def checkpoint(connection: sqlite3.Connection) -> int:
        nonlocal failed
        if threading.current_thread().name == "store-checkpoint":
            failed += 1
            raise sqlite3.OperationalError("disk I/O error")
        return whole(connection)

    monkeypatch.setattr(compaction, "checkpoint", checkpoint)
    await load(store, 100, 60)
    assert failed
    assert store.revision == 6_000
