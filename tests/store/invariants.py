"""What must be true of every log file at any time, whoever wrote it and however the writer ended.

`check` is for every test that used a store: tests/store/conftest.py calls it, and so may others, on an open or a closed log.
"""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from pathlib import Path

from minikube_py.store import files, schema


def check(directory: Path) -> None:
    """Look at the log in a data directory through a read-only connection; AssertionError says what is wrong."""
    path = directory / files.DATABASE
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("BEGIN")
        _check(connection)
    finally:
        connection.close()


def _check(connection: sqlite3.Connection) -> None:
    def pragma(name: str) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert pragma("integrity_check") == "ok"
    assert pragma("application_id") == schema.APPLICATION_ID
    assert pragma("user_version") == schema.VERSION
    assert pragma("page_size") == schema.PAGE_SIZE
    assert pragma("auto_vacuum") == 2, "incremental"
    assert pragma("journal_mode") == "wal"
    meta = schema.read_meta(connection)
    assert meta["compacted"] <= meta["history_floor"] <= meta["api_floor"]
    rows: dict[str, list[tuple[int, int, int, int]]] = {}
    for key, *row in connection.execute("SELECT key, revision, create_revision, prev_revision, deleted FROM log ORDER BY revision"):
        rows.setdefault(key, []).append(tuple(row))
    live = {key: (revision, created) for key, revision, created in connection.execute("SELECT key, revision, create_revision FROM live")}
    indexed = {key: [row for row in versions if row[0] <= meta["indexed"]] for key, versions in rows.items()}
    newest = {key: versions[-1] for key, versions in indexed.items() if versions}
    assert live == {key: row[:2] for key, row in newest.items() if not row[3]}, "the index is the newest rows of the log's indexed part"
    for key, versions in rows.items():
        _check_chain(key, versions, meta["compacted"])


def _check_chain(key: str, versions: list[tuple[int, int, int, int]], compacted: int) -> None:
    for revision, created, prev, deleted in versions:
        assert 0 <= prev < revision, (key, revision, "names a row before it")
        assert 0 < created <= revision, (key, revision, "was created before it was changed")
        assert not (deleted and revision <= compacted), (key, revision, "is a tombstone below the compacted part")
    first = versions[0]
    assert first[2] == 0 or first[2] <= compacted, (key, first, "lacks the row before it")
    for before, after in pairwise(versions):
        assert after[0] > compacted, (key, before, "was superseded in the compacted part")
        if after[2]:
            assert after[2] == before[0], (key, after, "does not name the row before it")
            assert not before[3], (key, after, "changes a deleted object")
            assert after[1] == before[1], (key, after, "changes the revision of creation")
        else:
            assert before[3], (key, after, "is created while it exists")
