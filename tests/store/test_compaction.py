"""Compaction: what goes and what stays, that space comes back, that nobody waits for it, and the timer that drives it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from minikube_py.aio import SystemClock
from minikube_py.store import index
from minikube_py.store.api import Compacted, Write
from minikube_py.store.maintenance import Retention, keep_floors, move_floors, over_size
from minikube_py.store.sqlite import SQLiteStore

from .conftest import Open


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


async def churn(store: SQLiteStore, keys: int, rounds: int, size: int = 4000) -> None:
    for round_ in range(rounds):
        heads = {r.key: r.revision for r in (await store.range("/r/")).records}
        await asyncio.gather(*(store.commit(Write(f"/r/{k}", heads.get(f"/r/{k}", 0), b"%d" % round_ * size)) for k in range(keys)))


async def test_history_goes_and_the_present_stays(store: SQLiteStore) -> None:
    await churn(store, 20, 10, 500)
    await store.commit(Write("/r/0", 181, None))
    await store.compact(150)
    await store.compact_history(store.revision)
    assert store.history_floor == 150, "the API floor is the limit"
    for revision in (150, 175, store.revision):
        records = (await store.range("/r/", revision=revision)).records
        assert len(records) == (19 if revision == store.revision else 20)
        assert max(record.revision for record in records) <= revision
    assert sum([len(batch) async for batch in store.since("/r/", 150, store.revision)]) == store.revision - 150
    with pytest.raises(Compacted):
        await store.range("/r/", revision=149)
    await store.compact(store.revision)
    await store.compact_history(store.revision)
    assert len((await store.range("/r/")).records) == 19


async def test_a_revision_whose_row_is_gone_is_not_given_again(open_store: Open, store: SQLiteStore) -> None:
    kept = await store.commit(Write("/r/kept", 0, b"1"))
    gone = await store.commit(Write("/r/gone", 0, b"1"))
    newest = (await store.commit(Write("/r/gone", gone.revision, None))).revision
    await store.compact(newest)
    await store.compact_history(newest)
    await store.close()
    again = await open_store()
    assert again.revision == newest
    assert [record.revision for record in (await again.range("/r/")).records] == [kept.revision]
    assert (await again.commit(Write("/r/new", 0, b"1"))).revision == newest + 1


async def test_space_goes_back_to_the_file_system(tmp_path: Path, store: SQLiteStore) -> None:
    await churn(store, 50, 40)
    await store.compact(store.revision)
    before = await store.used_bytes()
    await store.compact_history(store.revision)
    assert await store.used_bytes() < before / 10
    await store.close()
    assert (tmp_path / "data" / "log.db").stat().st_size < 3 << 20


async def test_nobody_waits_for_a_compaction(store: SQLiteStore) -> None:
    await churn(store, 100, 60)
    await store.compact(store.revision)
    compaction = asyncio.ensure_future(store.compact_history(store.revision))
    worst, revision, count = 0.0, 0, 0
    while not compaction.done():
        before = time.perf_counter()
        revision = (await store.commit(Write("/w", revision, b"x"))).revision
        worst = max(worst, time.perf_counter() - before)
        count += 1
    await compaction
    assert count > 10, "writes go on between the steps"
    assert worst < 0.5


async def test_a_compaction_that_was_cut_off_goes_on(open_store: Open, store: SQLiteStore, tmp_path: Path) -> None:
    await churn(store, 50, 30, 500)
    await store.compact(store.revision)
    compaction = asyncio.ensure_future(store.compact_history(store.revision))
    await asyncio.sleep(0.005)
    copy = await asyncio.create_subprocess_exec("cp", "-r", str(tmp_path / "data"), str(tmp_path / "crashed"))
    await copy.wait()
    await compaction
    other = await open_store(tmp_path / "crashed")
    assert len((await other.range("/r/")).records) == 50
    await other.compact_history(other.floor)
    assert [r.revision for r in (await other.range("/r/")).records] == [r.revision for r in (await store.range("/r/")).records]
    assert await other.used_bytes() < 300_000


async def test_a_read_that_a_compaction_overtakes_is_whole_or_refused(store: SQLiteStore) -> None:
    await churn(store, 100, 20, 200)
    revision = store.revision - 500
    expected = [r.revision for r in (await store.range("/r/", revision=revision)).records]

    async def read() -> int:
        told = 0
        for _ in range(50):
            try:
                assert [r.revision for r in (await store.range("/r/", revision=revision)).records] == expected
            except Compacted:
                assert store.floor > revision
                return told
            told += 1
            assert len((await store.range("/r/")).records) == 100
        return told

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0.01)
    await store.compact(store.revision)
    await store.compact_history(store.revision)
    assert await reading > 0


async def test_the_time_of_a_revision(open_store: Open) -> None:
    clock = Clock()
    store = await open_store(clock=clock)
    assert await store.revision_at(clock.now) == 0
    for number in range(1, 11):
        clock.now += 10
        await store.commit(Write("/r/a", number - 1, b"x"))
    start = clock.now - 100
    for number in (1, 5, 10):
        assert await store.revision_at(start + 10 * number) == number
        assert await store.revision_at(start + 10 * number + 5) == number
    assert await store.revision_at(start) == 0


async def test_history_is_kept_by_age(open_store: Open) -> None:
    clock = Clock()
    store = await open_store(clock=clock)
    for number in range(30):
        clock.now += 60
        await store.commit(Write("/r/a", number, b"x"))
    await move_floors(store, Retention(seconds=600), clock.now, 28)
    assert (store.floor, store.history_floor) == (28, 20)
    clock.now += 86_400
    await move_floors(store, Retention(seconds=600), clock.now, 30)
    assert (store.floor, store.history_floor) == (30, 30)


async def test_history_is_kept_by_size(store: SQLiteStore) -> None:
    await churn(store, 10, 60, 10_000)
    retention = Retention(bytes=2 << 20)
    for _ in range(30):
        await move_floors(store, retention, time.time(), store.revision)
    assert await store.used_bytes() < 3 << 20
    assert len((await store.range("/r/")).records) == 10


def test_what_is_over_is_taken_from_the_old_end() -> None:
    assert over_size(used=100, allowed=200, history_floor=7, api_floor=1000) == 7
    assert over_size(used=200, allowed=100, history_floor=0, api_floor=1000) == 500
    assert over_size(used=200, allowed=199, history_floor=10, api_floor=12) == 11
    assert over_size(used=200, allowed=1, history_floor=12, api_floor=12) == 12


async def test_the_timer_expires_what_was_there_one_turn_ago(store: SQLiteStore) -> None:
    task = asyncio.create_task(keep_floors(store, Retention(), SystemClock(), interval=0.05), name="floors")
    await store.commit(Write("/r/a", 0, b"x"))
    await store.commit(Write("/r/a", 1, b"y"))
    assert store.floor < store.revision
    with pytest.raises(Compacted):
        async with asyncio.timeout(2):
            while True:
                await store.get("/r/a", revision=1)
                await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])


async def test_a_page_costs_what_lives_not_what_was(store: SQLiteStore) -> None:
    """Two living objects among thousands of dead ones and of old versions: counted in steps of SQLite's machine, not in seconds. (Some
    hundred rows that the index lacks are looked at, too.)"""
    await store.commit(Write("/r/a", 0, b"x"))
    await store.commit(Write("/r/z", 0, b"x"))

    async def steps() -> int:
        total = 0

        def count() -> int:
            nonlocal total
            total += 1
            return 0

        await store._read.set_progress_handler(count, 10)
        for revision in (0, store.revision):
            assert len((await store.range("/r/", revision=revision, limit=10)).records) == 2
        await store._read.set_progress_handler(None, 0)  # type: ignore[arg-type]
        return total

    before = await steps()
    for round_ in range(3):
        created = await asyncio.gather(*(store.commit(Write(f"/r/m{n}", 0, b"x" * 100)) for n in range(1000)))
        await asyncio.gather(*(store.commit(Write(r.key, r.revision, None)) for r in created))
        for _ in range(100):
            record = await store.get("/r/a")
            assert record is not None
            await store.commit(Write("/r/a", record.revision, b"%d" % round_))
    await store._writer.run(index.bring_forward)
    assert await steps() < before + 20


async def test_the_tail_that_the_index_lacks_is_bounded(store: SQLiteStore, tmp_path: Path) -> None:
    connection = sqlite3.connect(f"file:{tmp_path}/data/log.db?mode=ro", uri=True, isolation_level=None)
    longest = 0
    for round_ in range(40):
        await asyncio.gather(*(store.commit(Write(f"/r/{round_}/{n}", 0, b"x")) for n in range(200)))
        (tail,) = connection.execute("SELECT count(*) FROM log, meta WHERE name = 'indexed' AND revision > meta.value").fetchone()
        longest = max(longest, tail)
    connection.close()
    assert 200 <= longest < 1_200
    assert len((await store.range("/r/")).records) == 8_000
