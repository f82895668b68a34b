"""The log's SQL reads: plain functions over a connection, one transaction each, run in the connection's thread.

Why apart: they are the only SQL on the read side, and each is one hop to the thread. What flows through: revisions and key ranges in,
rows out, still sealed.

What always holds: a read as of revision R costs what is live under the prefix, plus what was deleted there since R; the history of
living keys is never scanned. A key's state at R is its live row where that is not newer than R, else the newest row at or below R; the
keys that were alive at R and are not any more (or live a second life) are those with a tombstone above R. (The newest row at or below R may
be the tombstone of an earlier life, where a crash took the relaxed write that began the present one.) The index of what is live lags behind
the log (index.py): the rows behind it are the tail, and what they say of a key comes before what the index says.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

from minikube_py.store import schema

Row = tuple[int, str, int, int, int, bytes, int]
"""revision, key, create_revision, prev_revision, deleted, sealed value, key_id."""

_COLUMNS = "{0}.revision, {0}.key, {0}.create_revision, {0}.prev_revision, {0}.deleted, {0}.value, {0}.key_id"
_LOG = _COLUMNS.format("log")

_AT = f"SELECT {_LOG} FROM log INDEXED BY log_key WHERE key = ? AND revision <= ? ORDER BY revision DESC LIMIT 1"
_BY_REVISION = f"SELECT {_LOG} FROM log WHERE revision = ?"
_LIVE_AT = f"""
    SELECT {_LOG} FROM live CROSS JOIN log ON log.revision = CASE WHEN live.revision <= :revision THEN live.revision ELSE
        (SELECT old.revision FROM log AS old INDEXED BY log_key
         WHERE old.key = live.key AND old.revision <= :revision ORDER BY old.revision DESC LIMIT 1) END
    WHERE live.key >= :low AND live.key < :high AND live.key > :after AND live.create_revision <= :revision AND NOT log.deleted
    ORDER BY live.key LIMIT :limit"""
_LIVE_COUNT = """
    SELECT count(*) FROM live WHERE key >= :low AND key < :high AND key > :after AND create_revision <= :revision"""
_LIVED = "SELECT 1 FROM live WHERE key = ? AND create_revision <= ?"
_DEAD_SINCE = """
    SELECT DISTINCT key FROM log INDEXED BY log_tombstones
    WHERE deleted AND revision > :revision AND revision <= :indexed AND key >= :low AND key < :high AND key > :after ORDER BY key"""
_TAIL = """
    SELECT key, max(revision), deleted FROM log NOT INDEXED
    WHERE revision > :indexed AND revision <= :at AND key >= :low AND key < :high AND key > :after GROUP BY key ORDER BY key"""
_SINCE = f"SELECT {_LOG} FROM log WHERE revision > ? AND revision <= ? AND key >= ? AND key < ? ORDER BY revision LIMIT ?"


_key = itemgetter(1)


class RangeRead(NamedTuple):
    """The first rows of a range in key order; `complete` when there are no more; `total` counts all (0 where nobody asked)."""

    rows: Sequence[Row]
    complete: bool
    total: int


def bounds(prefix: str) -> tuple[str, str]:
    """The half-open range of keys that start with a prefix."""
    if not prefix:
        return "", "\U0010ffff"
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)


def at(connection: sqlite3.Connection, key: str, revision: int) -> Row | None:
    """The newest row of a key at or below a revision, which may be a tombstone."""
    row: Row | None = connection.execute(_AT, (key, revision)).fetchone()
    return row


def by_revision(connection: sqlite3.Connection, revision: int) -> Row | None:
    """One row of the log."""
    row: Row | None = connection.execute(_BY_REVISION, (revision,)).fetchone()
    return row


def range_at(
    connection: sqlite3.Connection, prefix: str, after: str, revision: int, limit: int, also: Sequence[str], count: bool
) -> tuple[RangeRead, set[str]]:
    """At most `limit` (0: all) rows that were alive at a revision; and those of the keys `also` that `total` counts."""
    low, high = bounds(prefix)
    connection.execute("BEGIN")
    try:
        indexed = schema.read_meta(connection)["indexed"]
        base = min(revision, indexed)
        names = {"low": low, "high": high, "after": after, "revision": base, "indexed": indexed, "at": revision}
        tail = {key: (number, deleted) for key, number, deleted in connection.execute(_TAIL, names)}
        names["limit"] = limit + 1 + len(tail) if limit else -1
        alive: list[Row] = connection.execute(_LIVE_AT, names).fetchall()
        dead = [row for (key,) in connection.execute(_DEAD_SINCE, names) if (row := at(connection, key, base)) and not row[4]]
        buried = {row[1] for row in dead}

        def indexes(key: str) -> bool:
            return key in buried or connection.execute(_LIVED, (key, base)).fetchone() is not None

        total = connection.execute(_LIVE_COUNT, names).fetchone()[0] + len(dead) if count else 0
        rows = list(heapq.merge(alive, dead, key=_key)) if dead else alive
        if tail:
            newer = [number for number, deleted in tail.values() if not deleted]
            newest = [row for number in newer[: limit + 1 if limit else None] if (row := by_revision(connection, number))]
            rows = list(heapq.merge((row for row in rows if row[1] not in tail), newest, key=_key))
            total += len(newer) - sum(map(indexes, tail)) if count else 0
        complete = not limit or len(rows) <= limit
        counted = {key for key in also if (not tail[key][1] if key in tail else indexes(key))}
    finally:
        connection.execute("COMMIT")
    return RangeRead(rows if complete else rows[:limit], complete, total), counted


def since(connection: sqlite3.Connection, prefix: str, revision: int, until: int, limit: int) -> list[Row]:
    """The first rows with revision < r <= until under a prefix, in order."""
    return connection.execute(_SINCE, (revision, until, *bounds(prefix), limit)).fetchall()
