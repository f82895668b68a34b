"""The data directory: who has it open, whether the last end was clean, and whether the file in it may be opened at all.

Why: a file that is damaged, foreign or newer than the program must stay as it is, byte by byte; so everything here looks before
anything writes. What flows through: a directory in, an `Opening` out that says what was found.

What always holds:
- one process at a time has the directory (an flock on `lock`, which the kernel lets go when the process ends);
- `log.db` is complete from the moment that it has its name: it is made under another one and renamed;
- `clean` exists only between a clean end and the next start, and names the size and time of the file as they were then; a file that
  was touched since, or comes from a copy, is checked like one after a crash.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from minikube_py.store import index, schema
from minikube_py.store.api import StoreDamaged, StoreLocked, StoreTooNew
from minikube_py.store.connection import translate

DATABASE = "log.db"
LOCK = "lock"
CLEAN = "clean"

Migration = Callable[[sqlite3.Connection], None]
"""Changes the tables of one version into those of the next."""

MIGRATIONS: Mapping[int, Migration] = {1: schema.migrate_1}
"""By the version that they start from."""


class Header(NamedTuple):
    """What SQLite's file header says (https://www.sqlite.org/fileformat.html#the_database_header)."""

    application_id: int
    user_version: int
    size: int
    """Bytes that the file must have at least, 0 where the header does not know."""


class Opening(NamedTuple):
    """What a start finds: the counters, the newest revision that has a row, each live key's revisions; `clean`: the last end was."""

    clean: bool
    meta: Mapping[str, int]
    newest: int
    heads: Mapping[str, tuple[int, int]]


def parse_header(start: bytes) -> Header | None:
    """The header of a SQLite 3 file from its first 100 bytes; None where they are something else."""
    if len(start) < 100 or not start.startswith(b"SQLite format 3\0"):
        return None

    def number(offset: int, length: int = 4) -> int:
        return int.from_bytes(start[offset : offset + length], "big")

    size = number(28) * number(16, 2) if number(24) == number(92) else 0
    return Header(number(68), number(60), size)


def lock(directory: Path) -> int:
    """Take the directory; closing the descriptor lets it go. Raises StoreLocked."""
    descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StoreLocked(
            f"{directory} is in use by another process{f' (pid {holder})' if holder else ''}: stop it, or choose another data directory"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def prepare(directory: Path, migrations: Mapping[int, Migration] = MIGRATIONS) -> Opening:
    """Make the log if there is none, check the one that is there, migrate an older one. Raises StoreDamaged, StoreTooNew; StoreFull.

    Whatever is refused is left untouched."""
    path = directory / DATABASE
    if not path.exists():
        leftover = next((p for p in (_wal(path), directory / CLEAN) if p.exists()), None)
        if leftover is not None:
            raise StoreDamaged(f"{path} is missing but {leftover.name} is there: restore the file from a backup, or empty {directory}")
        _make(directory)
    version = _examine(path)
    clean = _was_clean(directory)
    if version < schema.VERSION:
        _migrate(path, version, migrations)
        clean = False
    opening = _inspect(path, clean)
    with contextlib.suppress(FileNotFoundError):
        (directory / CLEAN).unlink()
    sync_directory(directory)
    return opening


def mark_clean(directory: Path) -> None:
    """Say that everything is in the file and nothing beside it. Called when all connections are closed."""
    path = directory / CLEAN
    with open(path, "w", encoding="ascii") as file:
        file.write(_fingerprint(directory / DATABASE))
        file.flush()
        os.fsync(file.fileno())
    sync_directory(directory)


def sync_directory(directory: Path) -> None:
    """Make the directory's entries durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fingerprint(path: Path) -> str:
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns}\n"


def _was_clean(directory: Path) -> bool:
    path = directory / DATABASE
    if _wal(path).exists():
        return False
    try:
        return (directory / CLEAN).read_text(encoding="ascii") == _fingerprint(path)
    except (FileNotFoundError, UnicodeDecodeError):
        return False


def _make(directory: Path) -> None:
    path = directory / (DATABASE + ".new")
    for leftover in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), Path(f"{path}-journal")):
        leftover.unlink(missing_ok=True)
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            schema.create(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise translate(error, path) from error
    path.chmod(0o600)
    _sync_file(path)
    path.rename(directory / DATABASE)
    sync_directory(directory)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _examine(path: Path) -> int:
    """The format's version of the file, from its header alone."""
    with open(path, "rb") as file:
        header = parse_header(file.read(100))
    if header is None:
        raise StoreDamaged(f"{path} is not a SQLite file, or its start is damaged: move it away and restore a backup")
    if header.application_id != schema.APPLICATION_ID:
        raise StoreDamaged(f"{path} is another program's SQLite file: choose another data directory, or move the file away")
    if header.user_version > schema.VERSION:
        raise StoreTooNew(
            f"{path} has format {header.user_version}, this program knows {schema.VERSION}: run the newer program or restore a backup"
        )
    if not _wal(path).exists() and path.stat().st_size < header.size:
        raise StoreDamaged(f"{path} has been cut off: move it away and restore a backup")
    if header.user_version < 1:
        raise StoreDamaged(f"{path} has no format version: move it away and restore a backup")
    return header.user_version


def _inspect(path: Path, clean: bool) -> Opening:
    """Read the counters and the current-state index; check the whole file where the last end was not clean."""
    connection = _look(path)
    try:
        connection.execute("PRAGMA query_only = ON")
        if not clean:
            _check(connection, path)
        connection.execute("BEGIN")
        meta = schema.read_meta(connection)
        newest = connection.execute("SELECT coalesce(max(revision), 0) FROM log").fetchone()[0]
        return Opening(clean, meta, newest, index.heads(connection, meta["indexed"]))
    except sqlite3.Error as error:
        raise translate(error, path) from error
    finally:
        connection.close()


def _check(connection: sqlite3.Connection, path: Path) -> None:
    problems = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
    if problems != ["ok"]:
        raise StoreDamaged(f"{path} is damaged ({'; '.join(problems[0].splitlines())}): move it away and restore a backup")


def _look(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing: a read-only one neither checkpoints nor deletes the write-ahead log when it closes; where there is
    none, an immutable one does not make one either."""
    how = "mode=ro" if _wal(path).exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _migrate(path: Path, version: int, migrations: Mapping[int, Migration]) -> None:
    """Bring an older file up to date: a verified copy is changed and takes the file's place; the old one stays beside it."""
    copy = path.with_name(f"{path.name}.v{schema.VERSION}")
    kept = path.with_name(f"{path.name}.v{version}")
    copy.unlink(missing_ok=True)
    copy.touch(stat.S_IMODE(path.stat().st_mode))
    try:
        source = _look(path)
        target = sqlite3.connect(copy, isolation_level=None)
        try:
            source.backup(target)
            _check(target, path)
            for step in range(version, schema.VERSION):
                target.execute("BEGIN IMMEDIATE")
                migrations[step](target)
                target.execute(f"PRAGMA user_version = {step + 1}")
                target.execute("COMMIT")
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            target.close()
            source.close()
    except StoreDamaged:
        copy.unlink(missing_ok=True)
        raise
    except sqlite3.Error as error:
        copy.unlink(missing_ok=True)
        raise translate(error, path) from error
    _sync_file(copy)
    # A write-ahead log belongs to the file's name. What it holds is in the copy already; it is folded into the old file, so that none is
    # left that could be taken for the new file's.
    try:
        old = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
        try:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            old.close()
    except sqlite3.Error as error:
        raise translate(error, path) from error
    kept.unlink(missing_ok=True)
    os.link(path, kept)
    copy.replace(path)
    sync_directory(path.parent)
