"""The embedded engine: the log in one SQLite file, read through one connection and written through another.

Why: a cluster of one server needs no etcd. This module is the composition: it opens the directory (files.py), owns both connections, and
answers reads; writes go to the one writer (writer.py). What flows through: records as api.py has them.

What always holds:
- a read looks at the relaxed writes that are in memory first and at the disk second, so that one which is flushed in between is seen twice
  at worst, and then told once;
- a read is as of a revision that was published, never of rows that are on disk already but not yet announced;
- after a read from disk the floor is looked at again: a compaction that ran meanwhile leaves no holes in an answer.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from sys import intern

from minikube_py.aio import Clock, SystemClock
from minikube_py.store import compaction, files, index, reader, schema
from minikube_py.store.api import Compacted, FutureRevision, Page, Record, StoreClosed, Transformer, Write
from minikube_py.store.batch import Identity
from minikube_py.store.connection import Connection
from minikube_py.store.writer import Limits, Writer

_BATCH_ROWS = 500


async def open_sqlite(
    directory: Path,
    *,
    transformer: Transformer | None = None,
    clock: Clock | None = None,
    limits: Limits = Limits(),  # noqa: B008 - a NamedTuple
    migrations: Mapping[int, files.Migration] = files.MIGRATIONS,
) -> SQLiteStore:
    """Open the log in a data directory, making both where they are not there.

    Raises StoreLocked (another process has it), StoreDamaged, StoreTooNew (the file is left as it is), StoreFull."""
    await asyncio.to_thread(directory.mkdir, mode=0o700, parents=True, exist_ok=True)
    lock = await asyncio.to_thread(files.lock, directory)
    connections: list[Connection] = []
    try:
        opening = await asyncio.to_thread(files.prepare, directory, migrations)
        path = directory / files.DATABASE
        for name, pragmas, read_only in (("store-writer", schema.WRITER_PRAGMAS, False), ("store-reader", schema.READER_PRAGMAS, True)):
            connections.append(Connection(path, name, pragmas, read_only=read_only))
            await connections[-1].open()
    except BaseException:
        for connection in connections[:-1]:
            await connection.close()
        os.close(lock)
        raise
    write, read = connections
    sealer = transformer or Identity()
    writer = Writer(
        write,
        sealer,
        clock or SystemClock(),
        limits,
        heads={intern(key): head for key, head in opening.heads.items()},
        revision=_newest(opening),
        reserved=opening.meta["reserved"],
    )
    writer.start()
    return SQLiteStore(directory, lock, read, write, writer, sealer, opening)


def _newest(opening: files.Opening) -> int:
    """The newest revision that may have been handed out: its row may be gone, if that was a tombstone that compaction has passed."""
    return max(opening.newest, opening.meta["reserved"], opening.meta["api_floor"])


class SQLiteStore:
    """A Store on SQLite (see api.py)."""

    def __init__(
        self,
        directory: Path,
        lock: int,
        read: Connection,
        write: Connection,
        writer: Writer,
        transformer: Transformer,
        opening: files.Opening,
    ) -> None:
        self._directory, self._lock, self._read, self._write, self._writer = directory, lock, read, write, writer
        self._transformer = transformer
        self._floor, self._history_floor = opening.meta["api_floor"], opening.meta["history_floor"]
        self._closed = False
        self.clean_start = opening.clean
        """Whether the process before this one had closed the log."""

    @property
    def revision(self) -> int:
        return self._writer.revision

    @property
    def floor(self) -> int:
        return self._floor

    @property
    def history_floor(self) -> int:
        """History (diff, undo) reaches down to here; at most the API floor."""
        return self._history_floor

    async def read_index(self) -> int:
        return self._writer.revision

    def on_commit(self, listener: Callable[[Sequence[Record]], None]) -> None:
        self._writer.listen(listener)

    async def commit(self, write: Write) -> Record:
        if write.value is None and not write.expected:
            raise ValueError("a delete needs the revision that it deletes")
        return await self._writer.commit(write)

    # Reading

    async def get(self, key: str, revision: int = 0) -> Record | None:
        self._check(revision)
        while True:
            at = revision or self._writer.revision
            head = self._writer.heads.get(key)
            if not revision and head is None:
                return None
            held = self._writer.relaxed.newest(key, at)
            if held is not None and head is not None and held.revision == head[0]:
                return held
            row = await self._read.run(reader.at, key, at)
            if self._sound(at, revision):
                break
        found = self._record(row) if row is not None else None
        if held is not None and (found is None or found.revision < held.revision):
            found = held
        return None if found is None or found.deleted else found

    async def range(self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0) -> Page:
        self._check(revision)
        while True:
            at = revision or self._writer.revision
            held = {key: record for key, record in self._writer.relaxed.under(prefix, at).items() if key > start_after}
            room = limit + len(held) if limit else 0
            read, counted = await self._read.run(reader.range_at, prefix, start_after, at, room, list(held) if limit else [], bool(limit))
            if self._sound(at, revision):
                break
        found = {record.key: record for record in map(self._record, read.rows)}
        total = read.total
        for key, record in held.items():
            known = found.get(key)
            if known is not None and known.revision > record.revision:
                continue
            if limit:
                total += int(not record.deleted) - int(key in counted)
            if record.deleted:
                found.pop(key, None)
            elif read.complete or key <= read.rows[-1][1]:
                found[key] = record
        records = [found[key] for key in sorted(found)] if held else list(found.values())
        if not limit:
            return Page(records, at, 0)
        return Page(records[:limit], at, (len(records) if read.complete else total) - len(records[:limit]))

    async def since(self, prefix: str, revision: int, until: int) -> AsyncIterator[Sequence[Record]]:
        while revision < until:
            self._check(revision)
            held = self._writer.relaxed.since(prefix, revision, until)
            rows = await self._read.run(reader.since, prefix, revision, until, _BATCH_ROWS)
            self._sound(revision, revision)
            upto = rows[-1][0] if len(rows) == _BATCH_ROWS else until
            found = {record.revision: record for record in map(self._record, rows)}
            found.update((record.revision, record) for record in held if record.revision <= upto)
            if found:
                yield [found[number] for number in sorted(found)]
            revision = upto

    def _check(self, revision: int) -> None:
        if self._closed:
            raise StoreClosed("the log is closed")
        if revision > self._writer.revision:
            raise FutureRevision(revision, self._writer.revision)
        if revision and revision < self._floor:
            raise Compacted(revision, self._floor)

    def _sound(self, at: int, asked: int) -> bool:
        """Whether what was read as of `at` is whole: compaction has not passed it. Raises Compacted where that revision was asked for."""
        if at >= self._history_floor:
            return True
        if asked:
            raise Compacted(at, self._floor)
        return False

    def _record(self, row: reader.Row) -> Record:
        revision, key, created, prev, deleted, stored, key_id = row
        return Record(intern(key), revision, created, prev, bool(deleted), self._transformer.open(key, stored, key_id))

    # Keeping

    async def compact(self, revision: int) -> None:
        revision = min(revision, self._writer.revision)
        if revision <= self._floor:
            return
        self._floor = revision
        self._writer.relaxed.trim(revision)
        await self._writer.run(compaction.raise_api_floor, revision)
        self._writer.dirtied(1)

    async def compact_history(self, revision: int) -> None:
        """Give up history at and below a revision (at most the API floor), step by step between other writes."""
        revision = min(revision, self._floor)
        # Compaction walks the log once: what is written down behind it would stay for ever.
        await self._writer.flush()
        waiting = self._writer.relaxed.all()
        if waiting:
            revision = min(revision, waiting[0].record.revision - 1)
        if revision < self._history_floor:
            return
        self._history_floor = revision
        # A tombstone that goes must be in the index before.
        await self._writer.run(index.bring_forward)
        for step in (self._compact_step, self._vacuum_step):
            done = False
            while not done:
                done = await step()

    async def _compact_step(self) -> bool:
        progress = await self._writer.run(compaction.compact_step, self._history_floor)
        self._writer.dirtied(progress.pages)
        return progress.done

    async def _vacuum_step(self) -> bool:
        progress = await self._writer.run(compaction.vacuum_step)
        self._writer.dirtied(progress.pages)
        return progress.done

    async def revision_at(self, time: float) -> int:
        """The newest revision that was written at or before a time (seconds since the epoch)."""
        return await self._read.run(compaction.newest_before, int(time * 1000))

    async def used_bytes(self) -> int:
        """What the log takes on disk, free pages not counted."""
        return await self._read.run(compaction.used_bytes)

    async def flush(self) -> None:
        """Write down now what relaxed writes left pending; without effect on a full disk."""
        await self._writer.flush()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            await self._writer.close()
            await self._read.close()
            await self._write.run(_fold)
            await self._write.close()
            await asyncio.to_thread(files.mark_clean, self._directory)
        finally:
            await self._read.close()
            await self._write.close()
            os.close(self._lock)


def _fold(connection: sqlite3.Connection) -> None:
    index.bring_forward(connection)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
