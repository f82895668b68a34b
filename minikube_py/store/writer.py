"""The one writer: the task that owns the write connection, assigns revisions, and commits in groups.

Why: whatever has queued while the last commit was syncing becomes the next batch, so that a hundred writers share one fsync; and because
one task publishes what it has committed, there are no gaps to fill and nothing to poll. What flows through: queued writes → plan →
rows (one hop to the thread) → listeners → acknowledgements. Between batches the same task flushes relaxed writes, runs one step of
compaction at a time, and checkpoints; so none of these is ever inside a commit. Under load most of a checkpoint goes on beside the commits.

What always holds:
- a durable write is acknowledged after the fsync and after the listeners have heard of it; all listeners hear all records in order;
- a batch whose commit fails leaves nothing behind: no head, no revision, no record;
- a relaxed write takes a revision at or below the durable reservation.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence, Set
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

from minikube_py.aio import Clock
from minikube_py.store import batch, compaction, index, schema
from minikube_py.store.api import Record, RevisionMismatch, StoreClosed, StoreError, StoreFull, Transformer, Write
from minikube_py.store.batch import Draft, Head, Plan, Step
from minikube_py.store.connection import Connection
from minikube_py.store.relaxed import Pending, RelaxedLog

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

RESERVATION = 10_000
"""Revisions that are reserved at a time for relaxed writes."""

_BATCH_WRITES = 512
_BATCH_BYTES = 4 << 20
_TAIL_ROWS = 500
"""Rows that the index is behind the log at most, and one batch: each range read of the present looks at them."""
_CHECKPOINT_FRAMES = 1_000
"""Frames of the write-ahead log after which an idle writer checkpoints."""
_CHECKPOINT_FRAMES_BUSY = 4_000
"""The same under load: it is copied beside the commits then, until little is left for a checkpoint between two of them."""
_CHECKPOINT_FRAMES_MOST = 8_000
"""Where commits wait for that copy: the file of the write-ahead log stays under 32 MiB and one batch, if no reader keeps it from beginning
anew."""
_COPIES = 2
"""How often it is copied beside the commits: each time what was written during the time before."""


class Limits(NamedTuple):
    """How relaxed writes are kept: seconds until they are flushed at the latest, and bytes that flush them earlier. Over four times the
    bytes (the disk is full, then) they are refused."""

    flush_interval: float = 60.0
    flush_bytes: int = 1 << 20


class _Queued(NamedTuple):
    write: Write
    waiter: asyncio.Future[Record]


class _Job(NamedTuple):
    call: Callable[[sqlite3.Connection], Any]
    waiter: asyncio.Future[Any]


class Writer:
    """The log's write side. `heads`, `relaxed` and `revision` are read by the store's read side, in the same loop."""

    def __init__(
        self,
        connection: Connection,
        transformer: Transformer,
        clock: Clock,
        limits: Limits,
        *,
        heads: dict[str, Head],
        revision: int,
        reserved: int,
    ) -> None:
        self.heads, self.revision, self.relaxed = heads, revision, RelaxedLog()
        self._connection, self._transformer, self._clock, self._limits = connection, transformer, clock, limits
        self._reserved = reserved
        self._queue: deque[_Queued] = deque()
        self._jobs: deque[_Job] = deque()
        self._listeners: tuple[Callable[[Sequence[Record]], None], ...] = ()
        self._wake = asyncio.Event()
        self._closing = False
        self._flush_due = False
        self._flush_failed = False
        self._flush_timer: asyncio.TimerHandle | None = None
        self._frames = self._tail = 0
        self._copying: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take writes."""
        self._task = asyncio.create_task(self._run(), name="store writer")
        self._task.add_done_callback(self._ended)

    def listen(self, listener: Callable[[Sequence[Record]], None]) -> None:
        """Call `listener` with the records of each batch, before its writers hear."""
        self._listeners = (*self._listeners, listener)

    async def commit(self, write: Write) -> Record:
        """Queue one write and wait for its record."""
        if self._closing:
            raise StoreClosed("the log is closed")
        waiter: asyncio.Future[Record] = self._loop.create_future()
        self._queue.append(_Queued(write, waiter))
        self._wake.set()
        return await waiter

    async def run(self, function: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function(connection, …)` on the write connection, between two batches."""
        if self._closing:
            raise StoreClosed("the log is closed")
        waiter: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._jobs.append(_Job(lambda connection: function(connection, *args, **kwargs), waiter))
        self._wake.set()
        return await waiter

    async def flush(self) -> None:
        """Write down now what relaxed writes left pending."""
        self._flush_due = True
        await self.run(lambda connection: None)

    def dirtied(self, pages: int) -> None:
        """Count pages that went into the write-ahead log outside a batch."""
        self._frames += pages

    async def close(self) -> None:
        """Finish what is queued, write down what is pending, and end. Raises StoreFull where that could not be written."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._copying is not None:
            await asyncio.wait([self._copying])
        if self._flush_timer is not None:
            self._flush_timer.cancel()
        await self._flush_pending(reserve=self.revision if self._reserved > self.revision else 0)

    # The task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Nobody may wait for a writer that is gone."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("the log's writer failed, no more writes are taken", exc_info=error)
        self._closing = True
        waiters: list[asyncio.Future[Any]] = [item.waiter for item in self._queue]
        waiters += [job.waiter for job in self._jobs]
        for waiter in waiters:
            _fail(waiter, StoreClosed("the log's writer has ended"))

    async def _run(self) -> None:
        while True:
            if not (self._queue or self._jobs or self._flush_due):
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
            if self._queue:
                await self._write(self._take())
                # A batch of relaxed writes alone goes nowhere that would let others have their turn.
                await asyncio.sleep(0)
            if self._flush_due:
                await self._flush()
            elif self._jobs:
                await self._do(self._jobs.popleft())
            await self._keep_short()

    async def _keep_short(self) -> None:
        """Bring the index forward when many rows are behind it; checkpoint when there is much in the write-ahead log."""
        if self._tail >= _TAIL_ROWS:
            await self._bring_forward()
        if self._frames < _CHECKPOINT_FRAMES:
            return
        if self._copying is None:
            if not self._queue:
                await self._checkpoint()
            elif self._frames >= _CHECKPOINT_FRAMES_BUSY:
                self._copying = asyncio.create_task(self._copy(), name="store checkpoint")
                self._copying.add_done_callback(self._copied)
        elif self._copying.done() or self._frames >= _CHECKPOINT_FRAMES_MOST:
            await asyncio.wait([self._copying])
            self._copying = None
            await self._checkpoint()

    def _take(self) -> list[_Queued]:
        taken: list[_Queued] = []
        size = 0
        while self._queue and len(taken) < _BATCH_WRITES and size < _BATCH_BYTES:
            queued = self._queue.popleft()
            size += len(queued.write.value or b"")
            taken.append(queued)
        return taken

    async def _write(self, queued: Sequence[_Queued]) -> None:
        try:
            records, losers = await self._commit([item.write for item in queued])
        except StoreError as error:
            for item in queued:
                _fail(item.waiter, error)
            return
        except Exception as error:
            log.exception("batch failed")
            for item in queued:
                _fail(item.waiter, StoreError(f"the write failed: {error}"))
            return
        for place, item in enumerate(queued):
            if place in losers:
                _fail(item.waiter, losers[place])
            elif not item.waiter.done():
                item.waiter.set_result(records[place])

    async def _commit(self, writes: Sequence[Write]) -> tuple[dict[int, Record], dict[int, RevisionMismatch]]:
        plan = batch.plan(writes, self.heads, self.revision)
        if not plan.steps:
            return {}, plan.losers
        now = int(self._clock.time() * 1000)
        durable, relaxed = batch.split(plan.steps)
        if relaxed and self._flush_failed and self.relaxed.pending_bytes > 4 * self._limits.flush_bytes:
            raise StoreFull("relaxed writes pile up in memory because the disk is full: make space, writes then work again")
        # A durable row names the row before it, which may still be in memory only: then that one is written along with it.
        along = self.relaxed.of({step.key for step in durable}) if self.relaxed else []
        values, sources = self._values_of_deleted(plan)
        late = [_pending_draft(item) for item in along]
        drafts = late + self._drafts(durable, values, now)
        reserve = relaxed[-1].revision + RESERVATION if relaxed and relaxed[-1].revision > self._reserved else 0
        if drafts or sources or reserve:
            read = await self._connection.run(batch.apply, self._transformer, drafts, sources, reserve, late)
            if read:
                values.update(read)
            self._wrote(drafts)
            self._reserved = max(self._reserved, reserve)
            self.relaxed.persisted(along)
        return self._publish(plan, {step.revision for step in relaxed}, values, now), plan.losers

    def _values_of_deleted(self, plan: Plan) -> tuple[dict[int, bytes], list[tuple[str, int]]]:
        """By source revision: the values that deletes take away, as far as they are in memory; and (key, revision) of the others."""
        values: dict[int, bytes] = {}
        sources: list[tuple[str, int]] = []
        for step in plan.steps:
            if not step.source:
                continue
            if step.source > self.revision:
                values[step.source] = next(s.write.value for s in plan.steps if s.revision == step.source) or b""
            elif (held := self.relaxed.newest(step.key, step.source)) is not None and held.revision == step.source:
                values[step.source] = held.value
            else:
                sources.append((step.key, step.source))
        return values, sources

    def _drafts(self, durable: Sequence[Step], values: dict[int, bytes], now: int) -> list[Draft]:
        drafts: list[Draft] = []
        for _, write, key, revision, created, previous, source in durable:
            value = values.get(source) if source else write.value
            drafts.append(Draft(revision, key, created, previous, bool(source), value, now, write.actor, source))
        return drafts

    def _publish(self, plan: Plan, relaxed: Set[int], values: dict[int, bytes], now: int) -> dict[int, Record]:
        records: dict[int, Record] = {}
        for place, write, key, revision, created, previous, source in plan.steps:
            deleted = write.value is None
            value = write.value if write.value is not None else values[source]
            record = records[place] = Record(key, revision, created, previous, deleted, value)
            if revision in relaxed:
                self.relaxed.put(record, now, write.actor)
        for key, head in plan.heads.items():
            if head is None:
                self.heads.pop(key, None)
            else:
                self.heads[key] = head
        self.revision = plan.steps[-1].revision
        if self.relaxed:
            self._arm_flush()
        published = tuple(records.values())
        for listener in self._listeners:
            try:
                listener(published)
            except Exception:
                log.exception("commit listener failed")
        return records

    # Beside the batches

    def _arm_flush(self) -> None:
        if self.relaxed.pending_bytes > self._limits.flush_bytes and not self._flush_failed:
            self._flush_due = True
        elif self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(self._limits.flush_interval, self._flush_now)

    def _flush_now(self) -> None:
        self._flush_timer = None
        self._flush_due = True
        self._wake.set()

    async def _flush(self) -> None:
        self._flush_due = False
        try:
            low = self._reserved - self.revision < RESERVATION // 2
            await self._flush_pending(reserve=self.revision + RESERVATION if low else 0)
            self._flush_failed = False
        except StoreError as error:
            self._flush_failed = True
            log.error("relaxed writes could not be written down, trying again later", extra={"error": str(error)})
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        if self.relaxed:
            self._arm_flush()

    async def _flush_pending(self, reserve: int) -> None:
        items = self.relaxed.all()
        if not items and not (reserve and self._closing):
            return
        for start in range(0, max(len(items), 1), _BATCH_WRITES):
            some = items[start : start + _BATCH_WRITES]
            drafts = [_pending_draft(item) for item in some]
            await self._connection.run(batch.apply, self._transformer, drafts, [], reserve, drafts)
            self._wrote(drafts)
            self.relaxed.persisted(some)
        if reserve:
            self._reserved = reserve

    async def _do(self, job: _Job) -> None:
        try:
            result = await self._connection.run(job.call)
        except Exception as error:
            _fail(job.waiter, error)
        else:
            if not job.waiter.done():
                job.waiter.set_result(result)

    async def _bring_forward(self) -> None:
        try:
            await self._connection.run(index.bring_forward)
        except StoreError as error:
            # Reads and starts look at a longer tail until the next try.
            log.error("the index of what exists could not be brought forward, trying again later", extra={"error": str(error)})
        self._frames += _TAIL_ROWS // 4
        self._tail = 0

    async def _checkpoint(self) -> None:
        """Copy all that is left, between two batches: nobody may write meanwhile, so that the write-ahead log begins anew after it."""
        try:
            whole = not await self._connection.run(compaction.checkpoint)
        except StoreError as error:
            # The write-ahead log holds everything still; the next try comes after as many frames again.
            log.error("checkpoint failed, trying again later", extra={"error": str(error)})
            whole = True
        self._frames = 0 if whole else _CHECKPOINT_FRAMES // 2

    async def _copy(self) -> None:
        connection = self._connection.another("store-checkpoint")
        await connection.open()
        try:
            for _ in range(_COPIES):
                await connection.run(compaction.checkpoint)
        finally:
            await connection.close()

    def _copied(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("the write-ahead log could not be copied beside the commits", extra={"error": str(error)})
        self._wake.set()

    def _wrote(self, drafts: Sequence[Draft]) -> None:
        size = sum([len(draft.value) for draft in drafts if draft.value])
        self._tail += len(drafts)
        self._frames += 3 + len(drafts) + size // schema.PAGE_SIZE


def _pending_draft(item: Pending) -> Draft:
    record = item.record
    return Draft(record.revision, record.key, record.create_revision, item.row_prev, record.deleted, record.value, item.time, item.actor)


def _fail(waiter: asyncio.Future[Any], error: Exception) -> None:
    if not waiter.done():
        waiter.set_exception(error)
