"""Random operations, clean ends and crashes, against a model that keeps everything in a list."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from minikube_py.store import index
from minikube_py.store.api import Durability, Record, RevisionMismatch, Write
from minikube_py.store.sqlite import SQLiteStore

from .conftest import Open
from .invariants import check
from .model import Model

KEYS = [f"/{group}/{name}" for group in ("a", "b") for name in "klmnopq"]


class Simulation:
    """One run: every answer of the store is compared with the model's."""

    def __init__(self, seed: int, directory: Path, open_store: Open) -> None:
        self.random = random.Random(seed)
        self.directory, self._open = directory, open_store
        self.generation = self.restarts = 0
        self.model = Model()
        self.unsafe: set[int] = set()
        self.highest = 0
        self.heard: list[Record] = []
        self.store: SQLiteStore

    async def start(self) -> None:
        self.store = await self._open(self.directory / str(self.generation))
        self.heard = []
        self.store.on_commit(self.heard.extend)

    def write(self) -> Write:
        key = self.random.choice(KEYS)
        now = self.model.at(key, self.highest)
        durability = self.random.choice((Durability.DURABLE, Durability.RELAXED))
        expected = now.revision if now else 0
        if self.random.random() < 0.05:
            expected += 1
        value = None if expected and self.random.random() < 0.3 else self.random.randbytes(self.random.choice((3, 300, 9000)))
        return Write(key, expected, value, "someone", durability)

    async def commits(self) -> None:
        writes = [self.write() for _ in range(self.random.choice((1, 1, 3, 20)))]
        heard = len(self.heard)
        results = await asyncio.gather(*map(self.store.commit, writes), return_exceptions=True)
        for write, result in zip(writes, results, strict=True):
            now = self.model.at(write.key, self.highest)
            actual = now.revision if now else 0
            if isinstance(result, RevisionMismatch):
                assert (write.expected, result.actual) != (actual, actual)
                assert result.actual == actual
                continue
            assert isinstance(result, Record), result
            assert write.expected == actual
            assert result.revision > self.highest, "no revision is used twice"
            self.highest = result.revision
            assert result == self.model.add(write.key, result.revision, write.value)
            if write.durability is Durability.RELAXED:
                self.unsafe.add(result.revision)
        assert self.heard[heard:] == self.model.records[len(self.model.records) - (len(self.heard) - heard) :]

    async def reads(self) -> None:
        revision = self.random.randint(max(self.store.floor, 1), max(self.store.revision, 1))
        if revision > self.store.revision:
            return
        prefix = self.random.choice(("/a/", "/b/", "/"))
        limit = self.random.choice((0, 1, 3, 100))
        after = self.random.choice(("", *KEYS))
        page = await self.store.range(prefix, start_after=after, limit=limit, revision=revision)
        expected = self.model.range(prefix, revision, after)
        assert self.plain(page.records) == self.plain(expected[:limit] if limit else expected), (prefix, after, limit, revision)
        remaining = max(len(expected) - limit, 0) if limit else 0
        # An object whose first record was melted away before a restart may be counted where it cannot be told.
        assert page.remaining == remaining or (self.restarts and remaining and page.remaining > remaining)
        assert self.plain((await self.store.range(prefix)).records) == self.plain(self.model.range(prefix, self.highest))
        key = self.random.choice(KEYS)
        assert self.plain([await self.store.get(key, revision)]) == self.plain([self.model.at(key, revision)])
        assert self.plain([await self.store.get(key)]) == self.plain([self.model.at(key, self.highest)])
        until = self.random.randint(revision, self.store.revision)
        told = [record async for batch in self.store.since(prefix, revision, until) for record in batch]
        assert self.plain(told) == self.plain(self.model.since(prefix, revision, until))

    def plain(self, records: Sequence[Record | None]) -> list[Record | None]:
        """Records to compare. Which record a relaxed one names as the one before it depends on what is on disk: not compared."""
        return [r._replace(prev_revision=-1) if r is not None and r.revision in self.unsafe else r for r in records]

    async def keeps(self) -> None:
        choice = self.random.random()
        if choice < 0.2:
            await self.store.flush()
        elif choice < 0.4:
            await self.store._writer.run(index.bring_forward)
        elif choice < 0.8:
            await self.store.compact(max(self.store.revision - self.random.randint(0, 60), 0))
        else:
            await self.store.compact_history(self.random.randint(0, self.store.floor))
        await asyncio.to_thread(check, self.directory / str(self.generation))

    async def restart(self) -> None:
        """A clean end, or a crash: a copy of the files as they are, with everything durable in it."""
        self.restarts += 1
        if self.random.random() < 0.5:
            await self.store.close()
            self.collapse_relaxed({r.revision async for r in self.rows()})
            return
        old, new = self.directory / str(self.generation), self.directory / str(self.generation + 1)
        # Copied by another process: to close a file that SQLite has open in this one would let go of its locks.
        copy = await asyncio.create_subprocess_exec("cp", "-r", str(old), str(new))
        assert await copy.wait() == 0
        await self.store.close()
        self.generation += 1
        self.collapse_relaxed({r.revision async for r in self.rows()})
        assert not self.store.clean_start
        assert self.store.revision >= self.highest, "the sequence goes on above everything that was handed out"

    async def rows(self):  # type: ignore[no-untyped-def]
        await self.start()
        async for batch in self.store.since("", self.store.floor, self.store.revision):
            for record in batch:
                yield record
        for record in (await self.store.range("", revision=self.store.floor)).records if self.store.floor else ():
            yield record

    def collapse_relaxed(self, found: set[int]) -> None:
        """Relaxed records may be gone, alone or because a later one of their key took their place; no other may."""
        kept = Model()
        for record in self.model.records:
            if record.revision in found:
                kept.records.append(record)
            elif record.revision > self.store.floor:
                assert record.revision in self.unsafe, f"{record} was acknowledged and is gone"
        floor = {record.revision for record in kept.range("", self.store.floor)}
        kept.records = [record for record in kept.records if record.revision > self.store.floor or record.revision in floor]
        there = {record.revision for record in kept.records}
        self.unsafe |= {record.revision for record in kept.records if record.prev_revision not in there}
        self.model = kept


@pytest.mark.parametrize("seed", range(12))
async def test_a_long_random_life(seed: int, tmp_path: Path, open_store: Open) -> None:
    simulation = Simulation(seed, tmp_path, open_store)
    await simulation.start()
    steps = (simulation.commits, simulation.reads, simulation.keeps, simulation.restart)
    for _ in range(150):
        (step,) = simulation.random.choices(steps, weights=(50, 40, 10, 3))
        await step()
