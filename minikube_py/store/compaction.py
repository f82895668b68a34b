"""Compaction: old rows go in small steps, and the space goes back to the file system in small steps.

Why in steps: the one write connection does this too, between batches; a step is sized to a few milliseconds, so that no write waits long.
A row goes when it was superseded at or below the history floor, and a tombstone when it is itself at or below it. Both are found by walking
the log once: every row names the one that it supersedes.

What always holds: progress and deletions are one transaction, so that a crash in between repeats nothing and misses nothing.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from minikube_py.store import schema
from minikube_py.store.batch import rollback

STEP_ROWS = 200
STEP_PAGES = 100
_SLACK_PAGES = 256
"""Free pages that stay in the file, so that steady work does not give back and take again."""


class Progress(NamedTuple):
    """What a step did: `pages` is about how many pages it dirtied."""

    done: bool
    pages: int


def raise_api_floor(connection: sqlite3.Connection, revision: int) -> None:
    """Keep the API floor over a restart."""
    schema.write_meta(connection, "api_floor", revision)


def compact_step(connection: sqlite3.Connection, floor: int) -> Progress:
    """Move the history floor to `floor` and delete some of what is below."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        meta = schema.read_meta(connection)
        rows = connection.execute(
            "SELECT revision, prev_revision, deleted FROM log WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ?",
            (meta["compacted"], floor, STEP_ROWS),
        ).fetchall()
        garbage = [prev for _, prev, _ in rows if prev] + [revision for revision, _, deleted in rows if deleted]
        if garbage:
            connection.execute(f"DELETE FROM log WHERE revision IN ({','.join('?' * len(garbage))})", garbage)
        done = len(rows) < STEP_ROWS
        compacted = max(floor, meta["compacted"]) if done else rows[-1][0]
        if floor > meta["history_floor"]:
            schema.write_meta(connection, "history_floor", floor)
        if compacted > meta["compacted"]:
            schema.write_meta(connection, "compacted", compacted)
        connection.execute("COMMIT")
    except sqlite3.Error:
        rollback(connection)
        raise
    return Progress(done, 3 * len(garbage) + 2)


def vacuum_step(connection: sqlite3.Connection) -> Progress:
    """Give some free pages back, where there are many."""
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    if free <= max(_SLACK_PAGES, pages // 8):
        return Progress(True, 0)
    # Each page is a row without columns, at the first of which `execute` would stop.
    connection.executescript(f"PRAGMA incremental_vacuum({STEP_PAGES})")
    return Progress(False, 2 * STEP_PAGES)


def newest_before(connection: sqlite3.Connection, time: int) -> int:
    """The newest revision written at or before a time (ms since the epoch), 0 if there is none. The clock of the log may have been set
    back now and then: the answer is then a little off, which a retention age can bear."""
    low, high = 0, connection.execute("SELECT coalesce(max(revision), 0) FROM log").fetchone()[0]
    while low < high:
        middle = (low + high + 1) // 2
        row = connection.execute("SELECT revision, time FROM log WHERE revision >= ? AND revision <= ? LIMIT 1", (middle, high)).fetchone()
        if row is None or row[1] > time:
            high = middle - 1
        else:
            low = row[0]
    return int(low)


def used_bytes(connection: sqlite3.Connection) -> int:
    """The size of the log without the pages that are free."""
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    return int((pages - free) * schema.PAGE_SIZE)


def checkpoint(connection: sqlite3.Connection) -> int:
    """Copy the write-ahead log into the file; how many of its frames are left (a reader may hold some back for a moment)."""
    busy, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return int(frames - copied) + int(busy)
