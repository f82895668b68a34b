"""The log's SQL reads: plain functions over a connection, one transaction each, run in the connection's thread.

Why apart: they are the only SQL on the read side, and each is one hop to the thread. What flows through: revisions and key ranges in,
rows out, still sealed.

What always holds: a read as of revision R costs what is live under the prefix, plus what was deleted there since R; the history of
living keys is never scanned. A key's state at R is its live row where that is not newer than R, else the newest row at or below R; the
keys that were alive at R and are not any more (or live a second life) are those with a tombstone above R. (The newest row at or below R may
be the tombstone of an earlier life, where a crash took the relaxed write that began the present one.)
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

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
    WHERE deleted AND revision > :revision AND key >= :low AND key < :high AND key > :after ORDER BY key"""
_SINCE = f"SELECT {_LOG} FROM log WHERE revision > ? AND revision <= ? AND key >= ? AND key < ? ORDER BY revision LIMIT ?"


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
    names = {"low": low, "high": high, "after": after, "revision": revision, "limit": limit + 1 if limit else -1}
    connection.execute("BEGIN")
    try:
        alive: list[Row] = connection.execute(_LIVE_AT, names).fetchall()
        dead = [row for (key,) in connection.execute(_DEAD_SINCE, names) if (row := at(connection, key, revision)) and not row[4]]
        rows = list(heapq.merge(alive, dead, key=lambda row: row[1])) if dead else alive
        complete = not limit or len(rows) <= limit
        total = connection.execute(_LIVE_COUNT, names).fetchone()[0] + len(dead) if count else 0
        buried = {row[1] for row in dead}
        counted = {key for key in also if key in buried or connection.execute(_LIVED, (key, revision)).fetchone()}
    finally:
        connection.execute("COMMIT")
    return RangeRead(rows if complete else rows[:limit], complete, total), counted


def since(connection: sqlite3.Connection, prefix: str, revision: int, until: int, limit: int) -> list[Row]:
    """The first rows with revision < r <= until under a prefix, in order."""
    return connection.execute(_SINCE, (revision, until, *bounds(prefix), limit)).fetchall()
