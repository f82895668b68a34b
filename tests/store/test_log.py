"""Writing and reading: compare-and-swap, ranges at a revision, what has happened since."""

from __future__ import annotations

import asyncio

import pytest

from minikube_py.store.api import Compacted, Durability, FutureRevision, Record, RevisionMismatch, StoreClosed, Write
from minikube_py.store.sqlite import SQLiteStore

from .conftest import Open


async def test_a_create_an_update_and_a_delete_are_one_revision_each(store: SQLiteStore) -> None:
    created = await store.commit(Write("/r/a", 0, b"one", "alice"))
    assert created == Record("/r/a", 1, 1, 0, False, b"one")
    updated = await store.commit(Write("/r/a", 1, b"two", "bob"))
    assert updated == Record("/r/a", 2, 1, 1, False, b"two")
    deleted = await store.commit(Write("/r/a", 2, None, "carol"))
    assert deleted == Record("/r/a", 3, 1, 2, True, b"two")
    again = await store.commit(Write("/r/a", 0, b"three"))
    assert again == Record("/r/a", 4, 4, 0, False, b"three")
    assert store.revision == await store.read_index() == 4


@pytest.mark.parametrize(("expected", "actual"), [(0, 1), (2, 1), (7, 1)])
async def test_a_write_at_another_revision_loses(store: SQLiteStore, expected: int, actual: int) -> None:
    await store.commit(Write("/r/a", 0, b"one"))
    with pytest.raises(RevisionMismatch) as lost:
        await store.commit(Write("/r/a", expected, b"two"))
    assert (lost.value.key, lost.value.expected, lost.value.actual) == ("/r/a", expected, actual)
    assert store.revision == 1


async def test_a_write_to_what_is_not_there_loses_to_nothing(store: SQLiteStore) -> None:
    with pytest.raises(RevisionMismatch) as lost:
        await store.commit(Write("/r/a", 5, None))
    assert lost.value.actual == 0
    with pytest.raises(ValueError, match="delete"):
        await store.commit(Write("/r/a", 0, None))


async def test_of_many_writers_at_once_one_wins(store: SQLiteStore) -> None:
    results = await asyncio.gather(*(store.commit(Write("/r/a", 0, b"%d" % i)) for i in range(50)), return_exceptions=True)
    winners = [r for r in results if isinstance(r, Record)]
    losers = [r for r in results if isinstance(r, RevisionMismatch)]
    assert len(winners) == 1
    assert len(losers) == 49
    assert {loser.actual for loser in losers} == {winners[0].revision}


async def test_a_delete_and_a_create_of_one_key_fit_into_one_batch(store: SQLiteStore) -> None:
    first = await store.commit(Write("/r/a", 0, b"old"))
    writes = [Write("/r/a", first.revision, None), Write("/r/a", 0, b"new"), Write("/r/b", 0, b"b")]
    deleted, created, _ = await asyncio.gather(*map(store.commit, writes))
    assert deleted.deleted
    assert deleted.value == b"old"
    assert created == Record("/r/a", 3, 3, 0, False, b"new")
    assert (await store.range("/r/")).records[0] == created


async def test_a_relaxed_delete_and_a_durable_create_of_one_key_in_one_batch(open_store: Open, store: SQLiteStore) -> None:
    await store.commit(Write("/r/a", 0, b"old", "", Durability.RELAXED))
    await asyncio.gather(store.commit(Write("/r/a", 1, None, "", Durability.RELAXED)), store.commit(Write("/r/a", 0, b"new")))
    await store.close()
    again = await open_store()
    assert [(r.key, r.revision) for r in (await again.range("/r/")).records] == [("/r/a", 3)]


async def test_listeners_hear_before_the_writer_and_in_order(store: SQLiteStore) -> None:
    heard: list[Record] = []
    store.on_commit(lambda records: heard.extend(records))

    async def write(number: int) -> None:
        record = await store.commit(Write(f"/r/{number}", 0, b"x", "", Durability.RELAXED if number % 3 else Durability.DURABLE))
        assert record in heard
        assert await store.get(record.key) == record

    await asyncio.gather(*map(write, range(200)))
    assert [record.revision for record in heard] == list(range(1, 201))


async def test_a_listener_that_fails_does_not_lose_the_write(store: SQLiteStore, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Record] = []

    def broken(records: object) -> None:
        raise RuntimeError("listener's fault")

    store.on_commit(broken)
    store.on_commit(lambda records: heard.extend(records))
    assert [await store.commit(Write("/r/a", 0, b"x"))] == heard
    assert "commit listener failed" in caplog.text


async def test_a_range_is_in_pages_and_at_a_revision(store: SQLiteStore) -> None:
    for name in "dacbe":
        await store.commit(Write(f"/r/{name}", 0, name.encode()))
    await store.commit(Write("/other/a", 0, b"-"))
    at = store.revision
    await store.commit(Write("/r/b", 4, b"changed"))
    await store.commit(Write("/r/c", 3, None))
    await store.commit(Write("/r/bb", 0, b"later"))
    await store.commit(Write("/r/d", 1, None))
    await store.commit(Write("/r/d", 0, b"second life"))
    first = await store.range("/r/", limit=2, revision=at)
    assert [r.key for r in first.records] == ["/r/a", "/r/b"]
    assert (first.records[1].value, first.remaining, first.revision) == (b"b", 3, at)
    second = await store.range("/r/", limit=2, revision=at, start_after="/r/b")
    assert [(r.key, r.value) for r in second.records] == [("/r/c", b"c"), ("/r/d", b"d")]
    assert second.remaining == 1
    last = await store.range("/r/", limit=2, revision=at, start_after="/r/d")
    assert [r.key for r in last.records] == ["/r/e"]
    assert last.remaining == 0
    now = await store.range("/r/")
    assert [r.key for r in now.records] == ["/r/a", "/r/b", "/r/bb", "/r/d", "/r/e"]
    assert (await store.range("/none/")).records == []


async def test_a_prefix_ends_where_it_ends(store: SQLiteStore) -> None:
    for key in ("/r/a", "/r/a/b", "/r/ab", "/r", "/r/\U0010fffd", "/r0"):
        await store.commit(Write(key, 0, b"x"))
    assert [r.key for r in (await store.range("/r/")).records] == ["/r/a", "/r/a/b", "/r/ab", "/r/\U0010fffd"]
    assert len((await store.range("")).records) == 6


async def test_the_future_and_the_compacted_past_are_refused(store: SQLiteStore) -> None:
    for number in range(1, 6):
        await store.commit(Write("/r/a", number - 1, b"%d" % number))
    with pytest.raises(FutureRevision):
        await store.range("/r/", revision=6)
    with pytest.raises(FutureRevision):
        await store.get("/r/a", revision=6)
    await store.compact(3)
    assert store.floor == 3
    with pytest.raises(Compacted) as gone:
        await store.range("/r/", revision=2)
    assert (gone.value.revision, gone.value.floor) == (2, 3)
    with pytest.raises(Compacted):
        await store.get("/r/a", revision=2)
    with pytest.raises(Compacted):
        await anext(store.since("/r/", 2, 5))
    found = await store.get("/r/a", revision=3)
    assert found is not None
    assert found.value == b"3"
    assert [[r.value for r in batch] async for batch in store.since("/r/", 3, 5)] == [[b"4", b"5"]]
    await store.compact(2)
    assert store.floor == 3, "a floor never goes down"


async def test_since_tells_everything_in_batches(store: SQLiteStore) -> None:
    await asyncio.gather(*(store.commit(Write(f"/r/{i}", 0, b"x")) for i in range(1200)))
    await store.commit(Write("/q/x", 0, b"-"))
    batches = [batch async for batch in store.since("/r/", 100, 1200)]
    assert len(batches) > 1
    assert [record.revision for batch in batches for record in batch] == list(range(101, 1201))
    assert [batch async for batch in store.since("/r/", 1201, 1201)] == []


async def test_a_large_value_comes_back_whole(store: SQLiteStore) -> None:
    value = bytes(range(256)) * 12_000
    await store.commit(Write("/r/big", 0, value))
    found = await store.get("/r/big")
    assert found is not None
    assert found.value == value


async def test_everything_is_there_after_a_clean_end(open_store: Open, store: SQLiteStore) -> None:
    await store.commit(Write("/r/a", 0, b"one"))
    relaxed = await store.commit(Write("/r/l", 0, b"lease", "", Durability.RELAXED))
    await store.compact(1)
    await store.close()
    again = await open_store()
    assert again.clean_start
    assert again.revision == 2
    assert again.floor == 1
    assert (await again.range("/r/")).records[1] == relaxed
    assert (await again.commit(Write("/r/b", 0, b"x"))).revision == 3


async def test_a_closed_store_refuses(store: SQLiteStore) -> None:
    await store.close()
    await store.close()
    with pytest.raises(StoreClosed):
        await store.commit(Write("/r/a", 0, b"x"))
    with pytest.raises(StoreClosed):
        await store.get("/r/a")


async def test_what_was_queued_before_the_close_is_written(open_store: Open, store: SQLiteStore) -> None:
    writes = [asyncio.ensure_future(store.commit(Write(f"/r/{i}", 0, b"x"))) for i in range(100)]
    await asyncio.sleep(0)
    await store.close()
    assert len({(await write).revision for write in writes}) == 100
    again = await open_store()
    assert len((await again.range("/r/")).records) == 100


async def test_a_writer_that_is_cancelled_disturbs_nobody(store: SQLiteStore) -> None:
    writes = [asyncio.ensure_future(store.commit(Write(f"/r/{i}", 0, b"x"))) for i in range(20)]
    await asyncio.sleep(0)
    for write in writes[::2]:
        write.cancel()
    done = await asyncio.gather(*writes, return_exceptions=True)
    assert all(isinstance(result, Record) for result in done[1::2])
    assert (await store.commit(Write("/r/more", 0, b"x"))).revision > max(r.revision for r in done[1::2])  # type: ignore[union-attr]
