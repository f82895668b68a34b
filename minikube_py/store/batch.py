"""One batch of writes: what it comes to (pure), and the SQL that makes it durable.

`plan` decides the compare-and-swap of each write against the heads (and against the writes before it in the batch) and hands out revisions;
`apply` runs in the writer's thread and is one multi-row statement, hence one fsync and one turn at the interpreter lock, however many
writes there are.

What always holds: planning changes nothing, so that a batch that fails has never been; revisions follow the order of arrival.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from sys import intern
from typing import NamedTuple

import msgspec

from minikube_py.store import reader, schema
from minikube_py.store.api import Durability, RevisionMismatch, StoreDamaged, Transformer, Write

Head = tuple[int, int]
"""revision and create_revision of a key that exists."""

_ROW = "(?,?,?,?,?,?,?,?,?,?)"
_DURABLE = Durability.DURABLE


class Identity:
    """The transformer of a store without encryption at rest."""

    def seal(self, key: str, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def open(self, key: str, stored: bytes, key_id: int) -> bytes:
        if key_id:
            raise StoreDamaged(f"{key} is encrypted with key {key_id}, which this server was not given: configure it, nothing was changed")
        return stored


class Step(NamedTuple):
    """A write that won, by its place in the batch, and the numbers of its record. `source` is set for a delete: the revision of the value
    that goes away."""

    place: int
    write: Write
    key: str
    revision: int
    create_revision: int
    prev_revision: int
    source: int


class Plan(msgspec.Struct):
    """What a batch comes to; `losers` by their place in it."""

    steps: list[Step] = msgspec.field(default_factory=list)
    losers: dict[int, RevisionMismatch] = msgspec.field(default_factory=dict)
    heads: dict[str, Head | None] = msgspec.field(default_factory=dict)
    """The heads as they will be, of the keys that change."""


class Draft(NamedTuple):
    """A row to be written. `value` None stands for a tombstone whose value is read from the row `source`."""

    revision: int
    key: str
    create_revision: int
    prev_revision: int
    deleted: bool
    value: bytes | None
    time: int
    actor: str
    source: int = 0


def plan(writes: Iterable[Write], heads: Mapping[str, Head], revision: int) -> Plan:
    """Decide each write in turn; the first that wins gets `revision` + 1."""
    result = Plan()
    steps, planned = result.steps, result.heads
    for index, write in enumerate(writes):
        key, expected, value = write.key, write.expected, write.value
        head = planned[key] if key in planned else heads.get(key)
        actual = head[0] if head else 0
        if expected != actual:
            result.losers[index] = RevisionMismatch(key, expected, actual)
            continue
        revision += 1
        key = intern(key)
        created = head[1] if head else revision
        if value is None:
            steps.append(Step(index, write, key, revision, created, actual, actual))
            planned[key] = None
        else:
            steps.append(Step(index, write, key, revision, created, actual, 0))
            planned[key] = (revision, created)
    return result


def split(steps: list[Step]) -> tuple[list[Step], list[Step]]:
    """Those that must be on disk before they are acknowledged, and those that need not. A relaxed write of a key that has a durable one in
    the same batch goes with it: the rows of a key are written in order."""
    keys = {step.key for step in steps if step.write.durability is _DURABLE}
    if len(keys) == len(steps):
        return steps, []
    return [step for step in steps if step.key in keys], [step for step in steps if step.key not in keys]


def apply(
    connection: sqlite3.Connection,
    transformer: Transformer,
    drafts: Sequence[Draft],
    sources: Sequence[tuple[str, int]],
    reserve: int,
    late: Sequence[Draft] = (),
) -> dict[int, bytes]:
    """Write the rows durably; raise the reservation where `reserve` is not 0. Gives the plain values of the `sources` (key, revision).

    `late` are those among the rows that were in memory first: the index may have passed their revisions."""
    sealed: dict[int, tuple[bytes, int]] = {}
    plain: dict[int, bytes] = {}
    for key, revision in sources:
        row = reader.by_revision(connection, revision)
        if row is None:
            raise StoreDamaged(f"the log has no row for revision {revision} of {key}: restore a backup")
        sealed[revision] = row[5], row[6]
        plain[revision] = transformer.open(key, row[5], row[6])
    parameters: list[object] = []
    for draft in drafts:
        value, key_id = sealed[draft.source] if draft.value is None else transformer.seal(draft.key, draft.value)
        parameters += (draft.revision, draft.key, draft.create_revision, draft.prev_revision, draft.deleted, value)
        parameters += (draft.time, draft.actor, schema.EPOCH, key_id)
    if not (reserve or late):
        # Outside a transaction the statement is one of its own: it commits, and so syncs, before it returns.
        if drafts:
            connection.execute(_insert(len(drafts)), parameters)
        return plain
    connection.execute("BEGIN IMMEDIATE")
    try:
        if drafts:
            connection.execute(_insert(len(drafts)), parameters)
        if reserve:
            schema.write_meta(connection, "reserved", reserve)
        if late:
            _index(connection, late)
        connection.execute("COMMIT")
    except sqlite3.Error:
        rollback(connection)
        raise
    return plain


def _index(connection: sqlite3.Connection, late: Sequence[Draft]) -> None:
    """Put rows into the index that it has passed. A key's rows are written in order: each is the newest of its key on disk, as yet."""
    indexed = schema.read_meta(connection)["indexed"]
    for draft in late:
        if draft.revision > indexed:
            continue
        if draft.deleted:
            connection.execute("DELETE FROM live WHERE key = ?", (draft.key,))
        else:
            connection.execute("INSERT OR REPLACE INTO live VALUES (?, ?, ?)", (draft.key, draft.revision, draft.create_revision))


def rollback(connection: sqlite3.Connection) -> None:
    """Leave the transaction, unless SQLite has left it by itself (it does when the disk is full)."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


@lru_cache(maxsize=600)
def _insert(rows: int) -> str:
    return "INSERT INTO log VALUES " + ",".join([_ROW] * rows)
