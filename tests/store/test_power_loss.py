"""What is there after the power went: the file as far as it was synced, and anything at all behind that.

A log is written and every acknowledgement noted with the end of the write-ahead log at that moment. Then the disk is made anew as a power
cut leaves it: the write-ahead log up to some page, and from there on nothing, zeros, or what stood there before the log was begun anew.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from minikube_py.store import files, schema
from minikube_py.store.api import Record, Write
from minikube_py.store.sqlite import SQLiteStore, open_sqlite

from .invariants import check

pytestmark = pytest.mark.timeout(180)

WAL = files.DATABASE + "-wal"
FRAME = 24 + schema.PAGE_SIZE
LAST = 1 << 20


def wal_end(path: Path) -> int:
    """Where the frames of the write-ahead log's present generation end (https://www.sqlite.org/walformat.html)."""
    with path.open("rb") as file:
        salt = os.pread(file.fileno(), 8, 16)
        end = 32
        while os.pread(file.fileno(), 8, end + 8) == salt:
            end += FRAME
    return end


async def copy(source: Path, target: Path) -> None:
    """What a power cut at this moment leaves of what the process has written; the store goes on."""
    process = await asyncio.create_subprocess_exec("cp", "-r", str(source), str(target))
    assert await process.wait() == 0
    (target / f"{files.DATABASE}-shm").unlink(missing_ok=True)


async def write_some(store: SQLiteStore, rng: random.Random, rounds: int, known: dict[str, int]) -> list[list[Record]]:
    """Creates, changes and deletes in groups; the records of each group, acknowledged before the next begins."""
    groups = []
    for _ in range(rounds):
        writes = []
        for key in {f"/r/{rng.randrange(60)}" for _ in range(rng.randrange(1, 6))}:
            gone = key in known and rng.random() < 0.2
            writes.append(Write(key, known.get(key, 0), None if gone else rng.randbytes(rng.choice((40, 2000, 9000)))))
        records = await asyncio.gather(*map(store.commit, writes))
        for record in records:
            known[record.key] = record.revision
            if record.deleted:
                del known[record.key]
        groups.append(list(records))
    return groups


async def everything(store: SQLiteStore) -> dict[int, Record]:
    return {record.revision: record async for batch in store.since("", 0, store.revision) for record in batch}


def behind(variant: int, cut: int, wal: bytes, former: bytes) -> bytes:
    """What the disk may hold after the part that was written: nothing, zeros, or what was there before."""
    return (b"", b"\0" * (len(wal) - cut), former[cut:])[variant]


async def test_the_log_cut_at_every_page_of_its_last_mebibyte(tmp_path: Path) -> None:
    directory, lost = tmp_path / "data", tmp_path / "lost"
    rng = random.Random(11)
    store = await open_sqlite(directory)
    known: dict[str, int] = {}
    before = await write_some(store, rng, 150, known)
    former = (directory / WAL).read_bytes()
    assert len(former) > LAST
    await store.flush()
    while wal_end(directory / WAL) > len(former) // 2:  # until it has been checkpointed and begun anew
        before += await write_some(store, rng, 10, known)
    acknowledged: list[tuple[int, int]] = []  # the end of the write-ahead log, and the newest revision, after each group
    groups = []
    while wal_end(directory / WAL) < LAST + 32:
        groups += await write_some(store, rng, 1, known)
        acknowledged.append((wal_end(directory / WAL), store.revision))
    await copy(directory, lost)
    records = {record.revision: record for group in (*before, *groups) for record in group}
    first = before[-1][-1].revision
    await store.close()

    wal = (lost / WAL).read_bytes()
    end = wal_end(lost / WAL)
    cuts = range((end - LAST) // schema.PAGE_SIZE * schema.PAGE_SIZE, end + 1, schema.PAGE_SIZE)
    assert len(cuts) >= LAST // schema.PAGE_SIZE
    ends = {first, *(revision for _, revision in acknowledged)}
    base = (lost / files.DATABASE).read_bytes()
    for number, cut in enumerate(cuts):
        victim = tmp_path / "victim"
        victim.mkdir()
        (victim / files.DATABASE).write_bytes(base)
        (victim / WAL).write_bytes(wal[:cut] + behind(number % 3, cut, wal, former))
        opened = await open_sqlite(victim)
        try:
            newest = max(await everything(opened), default=0) if number % 16 == 0 else opened.revision
            must = max((revision for place, revision in acknowledged if place <= cut), default=0)
            assert newest >= must, f"cut at {cut}: {must} was acknowledged, {newest} is the newest there"
            assert newest in ends or newest < first, "a group is there whole or not at all"
            if number % 16 == 0:
                await whole(opened, newest, records)
                assert (await opened.commit(Write("/more", 0, b"x"))).revision > newest
        finally:
            await opened.close()
        if number % 16 == 0:
            await asyncio.to_thread(check, victim)
        shutil.rmtree(victim)


async def test_a_checkpoint_of_which_any_part_has_reached_the_disk(tmp_path: Path) -> None:
    directory, lost, folded = tmp_path / "data", tmp_path / "lost", tmp_path / "folded"
    rng = random.Random(12)
    store = await open_sqlite(directory)
    known: dict[str, int] = {}
    groups = await write_some(store, rng, 60, known)
    await copy(directory, lost)
    await store.close()
    shutil.copytree(lost, folded)
    connection = sqlite3.connect(folded / files.DATABASE)
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    new, old = (folded / files.DATABASE).read_bytes(), (lost / files.DATABASE).read_bytes()
    connection.close()
    assert len(new) > len(old)
    records = {record.revision: record for group in groups for record in group}
    size = schema.PAGE_SIZE
    for _ in range(40):
        victim = tmp_path / "victim"
        shutil.copytree(lost, victim)
        length = rng.randrange(len(old), len(new) + 1, size)
        sources = [new if rng.random() < 0.5 or start >= len(old) else old for start in range(0, length, size)]
        (victim / files.DATABASE).write_bytes(b"".join(source[n * size : (n + 1) * size] for n, source in enumerate(sources)))
        opened = await open_sqlite(victim)
        assert opened.revision == max(records)
        await whole(opened, opened.revision, records)
        await opened.close()
        await asyncio.to_thread(check, victim)
        shutil.rmtree(victim)


async def test_a_checkpoint_beside_commits_of_which_any_part_has_reached_the_disk(tmp_path: Path) -> None:
    """The file is as some moment of a copy left it, and the commits that went on behind that are there up to any page."""
    directory, early, lost = tmp_path / "data", tmp_path / "early", tmp_path / "lost"
    rng = random.Random(13)
    store = await open_sqlite(directory)
    known: dict[str, int] = {}
    groups = await write_some(store, rng, 30, known)
    begun, first = wal_end(directory / WAL), store.revision
    await copy(directory, early)
    acknowledged = []
    for _ in range(30):
        groups += await write_some(store, rng, 1, known)
        acknowledged.append((wal_end(directory / WAL), store.revision))
    await copy(directory, lost)
    await store.close()
    old, wal = (early / files.DATABASE).read_bytes(), (lost / WAL).read_bytes()
    assert old == (lost / files.DATABASE).read_bytes(), "no checkpoint has been yet"
    assert wal_end(lost / WAL) > begun
    connection = sqlite3.connect(early / files.DATABASE)
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    new = (early / files.DATABASE).read_bytes()
    connection.close()
    assert len(new) > len(old)
    records = {record.revision: record for group in groups for record in group}
    size = schema.PAGE_SIZE
    for _ in range(40):
        victim = tmp_path / "victim"
        victim.mkdir()
        length = rng.randrange(len(old), len(new) + 1, size)
        sources = [new if rng.random() < 0.5 or start >= len(old) else old for start in range(0, length, size)]
        (victim / files.DATABASE).write_bytes(b"".join(source[n * size : (n + 1) * size] for n, source in enumerate(sources)))
        cut = rng.randrange(begun, wal_end(lost / WAL) + 1)
        (victim / WAL).write_bytes(wal[:cut])
        opened = await open_sqlite(victim)
        assert opened.revision == max((revision for place, revision in acknowledged if place <= cut), default=first)
        await whole(opened, opened.revision, records)
        await opened.close()
        await asyncio.to_thread(check, victim)
        shutil.rmtree(victim)


async def whole(store: SQLiteStore, newest: int, records: dict[int, Record]) -> None:
    """Every record up to the newest is there as it was acknowledged, and the current state follows from them."""
    found = await everything(store)
    expected: Sequence[int] = [revision for revision in records if revision <= newest]
    assert found == {revision: records[revision] for revision in expected}
    current = {}
    for revision in sorted(expected):
        current[records[revision].key] = records[revision]
    live = {record.key: record for record in (await store.range("")).records}
    assert live == {key: record for key, record in current.items() if not record.deleted}
