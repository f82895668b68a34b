"""The on-disk format: tables, file settings, and the version that says which program may open the file.

`log` is the log itself, one row a revision. `live` is the current-state index: one row for each key that exists as of the rows up to a
revision. It follows from the log, so that a commit need not write it: it is brought forward many rows at a time (see index.py), and what
is newer is read from the log's own end. `meta` holds a few counters:

- reserved: revisions up to here may have been handed out without a row (relaxed writes); after an unclean end the sequence goes on above;
- api_floor: lists and watches below it are refused; history_floor: rows that were superseded at or below it may be gone;
- compacted: how far compaction towards history_floor has come;
- indexed: `live` is the state that the rows up to here make.

What always holds: `user_version` never changes inside a file (a migration works on a copy, which then takes the file's place), so the
100 bytes of the header tell whether the file is ours and not too new, without opening it. None of the columns can be added afterwards.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x6D6B7079
"""In the file's header: `mkpy`."""

VERSION = 2
"""The format's version, in the file's user_version."""

EPOCH = 1
"""Which defaults and schemas wrote a value; goes up when a release changes them for objects that are stored already."""

PAGE_SIZE = 4096

SETTINGS = (
    f"page_size = {PAGE_SIZE}",
    "auto_vacuum = INCREMENTAL",
    f"application_id = {APPLICATION_ID}",
    f"user_version = {VERSION}",
    "journal_mode = WAL",
)
"""What is set once, when the file is made; the first two must come before the first table."""

WRITER_PRAGMAS = ("synchronous = FULL", "wal_autocheckpoint = 0", "temp_store = MEMORY", "cache_size = -2048", "busy_timeout = 5000")
READER_PRAGMAS = ("query_only = ON", "temp_store = MEMORY", "cache_size = -2048", "busy_timeout = 5000")

TABLES = (
    """CREATE TABLE log(
        revision INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        create_revision INTEGER NOT NULL,
        prev_revision INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        value BLOB NOT NULL,
        time INTEGER NOT NULL,
        actor TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        key_id INTEGER NOT NULL
    )""",
    "CREATE INDEX log_key ON log(key)",
    "CREATE INDEX log_tombstones ON log(revision, key) WHERE deleted",
    "CREATE TABLE live(key TEXT PRIMARY KEY, revision INTEGER NOT NULL, create_revision INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('reserved', 0), ('api_floor', 0), ('history_floor', 0), ('compacted', 0), ('indexed', 0)",
)


def create(connection: sqlite3.Connection) -> None:
    """Make an empty log in a new file."""
    for setting in SETTINGS:
        connection.execute(f"PRAGMA {setting}").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        connection.execute(statement)
    connection.execute("COMMIT")


def migrate_1(connection: sqlite3.Connection) -> None:
    """Format 1 kept `live` with triggers, at every row."""
    connection.execute("DROP TRIGGER log_live")
    connection.execute("DROP TRIGGER log_dead")
    connection.execute("INSERT INTO meta SELECT 'indexed', coalesce(max(revision), 0) FROM log")


def read_meta(connection: sqlite3.Connection) -> dict[str, int]:
    """The counters by name."""
    return dict(connection.execute("SELECT name, value FROM meta"))


def write_meta(connection: sqlite3.Connection, name: str, value: int) -> None:
    """Set one counter, inside whatever transaction is open."""
    connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))
