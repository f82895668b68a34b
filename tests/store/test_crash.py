"""What is there after the process was killed, or the write-ahead log was cut off anywhere."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
from pathlib import Path

from minikube_py.store.api import Durability, Record, Write
from minikube_py.store.sqlite import SQLiteStore, open_sqlite

from .conftest import Open
from .invariants import check


async def run_and_kill(directory: Path, writers: int, after: float) -> list[list[str]]:
    """The lines of what a process had acknowledged when it was killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.store.crasher", str(directory), str(writers), stdout=asyncio.subprocess.PIPE, limit=1 << 26
    )
    assert process.stdout is not None
    started = await process.stdout.readline()
    assert started.startswith(b"open ")
    reading = asyncio.ensure_future(process.stdout.read())
    await asyncio.sleep(after)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    lines = (await reading).decode().splitlines(keepends=True)
    return [started.decode().split(), *(line.split() for line in lines if line.endswith("\n"))]


async def everything(store: SQLiteStore) -> dict[int, Record]:
    return {r.revision: r async for batch in store.since("", 0, store.revision) for r in batch}


async def test_kill_9_among_64_writers(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    used: set[int] = set()
    rng = random.Random(7)
    for _ in range(4):
        first, *acknowledged = await run_and_kill(directory, 64, 0.4 + rng.random() / 2)
        assert len(acknowledged) > 200
        start = int(first[1])
        assert start >= max(used, default=0)
        revisions = [int(line[2]) for line in acknowledged]
        assert len(set(revisions)) == len(revisions)
        assert not used & set(revisions), "no revision is used twice"
        assert min(revisions) > start
        used |= set(revisions)
        store = await open_sqlite(directory)
        assert not store.clean_start
        found = await everything(store)
        for durability, key, revision, deleted, count in acknowledged:
            record = found.get(int(revision))
            if record is None:
                assert durability == "relaxed", f"{key} at {revision} was acknowledged and is gone"
                continue
            assert (record.key, record.deleted) == (key, deleted == "1")
            if not record.deleted:
                assert record.value == b"%d " % int(count) * 300
        new = await store.commit(Write("/new", 0 if (now := await store.get("/new")) is None else now.revision, b"x"))
        assert new.revision > max(used)
        used.add(new.revision)
        # Half of the starts come after a clean end, half after a kill of a process that had only just begun.
        await store.close()
        await asyncio.to_thread(check, directory)


async def test_a_write_ahead_log_that_was_cut_anywhere(tmp_path: Path) -> None:
    directory, copy = tmp_path / "data", tmp_path / "copy"
    store = await open_sqlite(directory)
    batches: list[list[int]] = []
    store.on_commit(lambda records: batches.append([record.revision for record in records]))
    for number in range(6):
        writes = [Write(f"/r/{number}/{i}", 0, random.randbytes(3000 if i % 2 else 9000)) for i in range(1 + number % 3)]
        await asyncio.gather(*map(store.commit, writes))
    process = await asyncio.create_subprocess_exec("cp", "-r", str(directory), str(copy))
    assert await process.wait() == 0
    await store.close()
    wal = (copy / "log.db-wal").read_bytes()
    ends = [0, *(batch[-1] for batch in batches)]
    seen = set()
    frame = 4096 + 24
    cuts = [0, 16, 32, *(32 + n * frame + extra for n in range((len(wal) - 32) // frame + 1) for extra in (0, 12, 24, 2000))]
    for cut in cuts:
        victim = tmp_path / "victim"
        shutil.copytree(copy, victim)
        (victim / "log.db-shm").unlink()
        (victim / "log.db-wal").write_bytes(wal[:cut])
        opened = await open_sqlite(victim)
        found = await everything(opened)
        newest = max(found, default=0)
        assert newest in ends, "a batch is there whole or not at all"
        assert set(found) == set(range(1, newest + 1))
        seen.add(newest)
        assert (await opened.commit(Write("/more", 0, b"x"))).revision > newest
        await opened.close()
        await asyncio.to_thread(check, victim)
        shutil.rmtree(victim)
    assert seen == set(ends), "every length of the log was met"


async def test_relaxed_writes_after_an_unclean_end(tmp_path: Path, open_store: Open) -> None:
    directory = tmp_path / "data"
    given: set[int] = set()
    for generation in range(5):
        store = await open_store(directory / str(generation))
        assert store.revision >= max(given, default=0)
        lease = await store.get("/l/node")
        revision = lease.revision if lease else 0
        for number in range(30):
            record = await store.commit(Write("/l/node", revision, b"%d" % number, "", Durability.RELAXED))
            revision = record.revision
            assert revision not in given
            given.add(revision)
            if number == 20 and generation % 2:
                await store.flush()
                flushed = revision
        crash = await asyncio.create_subprocess_exec("cp", "-r", str(directory / str(generation)), str(directory / str(generation + 1)))
        assert await crash.wait() == 0
        if generation % 2:
            other = await open_store(directory / str(generation + 1))
            found = await other.get("/l/node")
            assert found is not None
            assert found.revision == flushed, "what was flushed survives, what came later may not"
            await other.close()
        await store.close()


async def test_more_relaxed_writes_than_are_reserved_at_once(tmp_path: Path, open_store: Open) -> None:
    store = await open_store(tmp_path / "a")
    for _ in range(27):
        await asyncio.gather(*(store.commit(Write(f"/e/{store.revision}/{n}", 0, b"e", "", Durability.RELAXED)) for n in range(1000)))
    highest = store.revision
    crash = await asyncio.create_subprocess_exec("cp", "-r", str(tmp_path / "a"), str(tmp_path / "b"))
    assert await crash.wait() == 0
    other = await open_store(tmp_path / "b")
    assert other.revision >= highest
