"""One aiosqlite connection that can run a whole function in its thread, and the translation of SQLite's errors.

Why: a hop to the connection's thread and back costs 100 µs and more, and a transaction of several statements would make several.
`Connection.run` makes it one. What flows through: functions over a sqlite3.Connection in, their results out.

What always holds: functions of one connection run one after the other, in order; nobody above this module sees an exception of sqlite3.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import aiosqlite

from minikube_py.store.api import StoreDamaged, StoreError, StoreFull

P = ParamSpec("P")
R = TypeVar("R")

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Connection(aiosqlite.Connection):
    """A connection to one file. `pragmas` are run when it opens, in the connection's own thread."""

    def __init__(self, path: Path, name: str, pragmas: Sequence[str], *, read_only: bool) -> None:
        self._path, self._pragmas, self._read_only = path, pragmas, read_only

        def connect() -> sqlite3.Connection:
            mode = "ro" if read_only else "rw"
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, cached_statements=512, check_same_thread=False
            )
            try:
                for pragma in pragmas:
                    connection.execute(f"PRAGMA {pragma}").fetchall()
            except sqlite3.Error:
                connection.close()
                raise
            return connection

        super().__init__(connect, iter_chunk_size=64)
        self._thread.name = name
        self._thread.daemon = True

    def another(self, name: str) -> Connection:
        """A second connection to the same file, not open yet."""
        return Connection(self._path, name, self._pragmas, read_only=self._read_only)

    async def open(self) -> None:
        """Start the thread and open the file. Raises StoreDamaged, StoreFull, StoreError."""
        try:
            await self
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    async def run(self, function: Callable[Concatenate[sqlite3.Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call `function(connection, …)` in the connection's thread. Raises what it raises, with SQLite's errors translated."""
        try:
            # The one protected call of aiosqlite that is needed: its public methods are one hop for each statement.
            return cast("R", await cast("Any", self)._execute(function, self._conn, *args, **kwargs))
        except sqlite3.Error as error:
            raise translate(error, self._path) from error


def translate(error: sqlite3.Error, path: Path) -> StoreError:
    """The store's own exception for one of SQLite's."""
    code: int = getattr(error, "sqlite_errorcode", None) or 0
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _no_space(path)):
        return StoreFull(f"the file system of {path} is full: make space, writes then work again")
    if primary in _DAMAGED:
        return StoreDamaged(f"{path} is damaged ({error}): stop the server, move the file away and restore a backup")
    return StoreError(f"{path}: {error}")


def _no_space(path: Path) -> bool:
    try:
        stat = os.statvfs(path.parent)
    except OSError:
        return False
    return stat.f_bavail * stat.f_frsize < 1 << 20
