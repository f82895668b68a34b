"""The current-state index `live`: which keys exist, as of the rows of the log up to the counter `indexed`.

Why it lags behind the log: a page of it for each key that changes would be a third of what a commit writes. It is brought forward between
commits instead, some hundred rows at a time, which share its pages. What flows through: the rows behind `indexed` in, the index as of the
newest of them out.

What always holds: `live` has the newest row of each key at or below `indexed`, if that is no tombstone. The tail behind it is short: a
start and a range read look at all of it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from minikube_py.store import schema
from minikube_py.store.batch import rollback

# Rows by number: the index over keys would lead through the whole log.
_TAIL = "SELECT key, max(revision) AS revision, create_revision, deleted FROM log NOT INDEXED WHERE revision > ? GROUP BY key"

_BURIED = "SELECT key FROM log INDEXED BY log_tombstones WHERE deleted AND revision > ?"


def heads(connection: sqlite3.Connection, indexed: int) -> Mapping[str, tuple[int, int]]:
    """revision and create_revision of each key that exists, by the index and the tail."""
    found = {key: (revision, created) for key, revision, created in connection.execute("SELECT key, revision, create_revision FROM live")}
    for key, revision, created, deleted in connection.execute(_TAIL, (indexed,)):
        if deleted:
            found.pop(key, None)
        else:
            found[key] = (revision, created)
    return found


def bring_forward(connection: sqlite3.Connection) -> None:
    """Put the tail into the index, in a transaction of its own."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        indexed = schema.read_meta(connection)["indexed"]
        newest = connection.execute("SELECT coalesce(max(revision), 0) FROM log").fetchone()[0]
        if newest > indexed:
            # Those too that were made again: the next statement has their new revisions.
            connection.execute(f"DELETE FROM live WHERE key IN ({_BURIED})", (indexed,))
            connection.execute(
                f"INSERT OR REPLACE INTO live SELECT key, revision, create_revision FROM ({_TAIL}) WHERE NOT deleted", (indexed,)
            )
            schema.write_meta(connection, "indexed", newest)
        connection.execute("COMMIT")
    except sqlite3.Error:
        rollback(connection)
        raise
