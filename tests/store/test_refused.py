"""Files that may not be opened: what is said, and that not a byte of them changes."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from minikube_py.store import files, schema
from minikube_py.store.api import StoreDamaged, StoreError, StoreLocked, StoreTooNew, Write
from minikube_py.store.sqlite import open_sqlite

from .invariants import check


async def fill(directory: Path) -> None:
    store = await open_sqlite(directory)
    for number in range(300):
        await store.commit(Write(f"/r/{number}", 0, b"v" * 3000))
    await store.close()


async def copy_of_a_running_log(directory: Path) -> None:
    """A log as a crash leaves it: with a write-ahead log that holds more than the file."""
    other = directory.with_name("running")
    store = await open_sqlite(other)
    for number in range(50):
        await store.commit(Write(f"/r/{number}", 0, b"v" * 3000))
    copy = await asyncio.create_subprocess_exec("cp", "-r", str(other), str(directory))
    assert await copy.wait() == 0
    await store.close()


def fingerprint(directory: Path) -> dict[str, str]:
    """Contents by name; not of the lock, and not of the -shm file, which only indexes the write-ahead log."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir() if p.name not in ("lock", "log.db-shm")}


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def break_index(path: Path) -> None:
    """The root page of the current-state index becomes nonsense."""
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'live'").fetchone()
    connection.close()
    overwrite(path, (page - 1) * schema.PAGE_SIZE, b"\xa5" * schema.PAGE_SIZE)


def newer(path: Path) -> None:
    overwrite(path, 60, (schema.VERSION + 1).to_bytes(4, "big"))


def foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes(text)")
    connection.commit()
    connection.close()


DAMAGE: dict[str, tuple[Callable[[Path], object], type[StoreError], str]] = {
    "nonsense in the middle": (lambda p: overwrite(p, 20 * 4096, b"\xa5" * 40960), StoreDamaged, "restore a backup"),
    "a broken index": (break_index, StoreDamaged, "restore a backup"),
    "a broken header": (lambda p: overwrite(p, 0, b"\0" * 16), StoreDamaged, "restore a backup"),
    "cut in half": (lambda p: truncate(p, p.stat().st_size // 2 // 4096 * 4096), StoreDamaged, "restore a backup"),
    "cut inside a page": (lambda p: truncate(p, p.stat().st_size - 1000), StoreDamaged, "restore a backup"),
    "cut to a few bytes": (lambda p: truncate(p, 50), StoreDamaged, "restore a backup"),
    "empty": (lambda p: truncate(p, 0), StoreDamaged, "restore a backup"),
    "not a database": (lambda p: p.write_bytes(b"hello, world\n" * 1000), StoreDamaged, "not a SQLite file"),
    "a newer format": (newer, StoreTooNew, "run the newer program"),
    "another program's file": (foreign, StoreDamaged, "another program's"),
    "the file is gone, not what goes with it": (lambda p: p.rename(p.with_name("log.db-wal")), StoreDamaged, "is missing"),
}


def truncate(path: Path, size: int) -> None:
    with open(path, "r+b") as file:
        file.truncate(size)


@pytest.mark.parametrize("what", DAMAGE)
async def test_it_is_refused_and_left_as_it_is(what: str, tmp_path: Path) -> None:
    damage, error, advice = DAMAGE[what]
    directory = tmp_path / "data"
    await fill(directory)
    damage(directory / files.DATABASE)
    before = fingerprint(directory)
    for _ in range(2):
        with pytest.raises(error, match=advice) as refused:
            await open_sqlite(directory)
        assert str(directory) in str(refused.value)
        assert fingerprint(directory) == before


async def test_damage_is_found_after_a_crash_as_well(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    await copy_of_a_running_log(directory)
    # All pages are in the write-ahead log as well, and would heal the file: it goes too, but for its header.
    overwrite(directory / files.DATABASE, 4096, b"\xa5" * 4096 * 3)
    truncate(directory / "log.db-wal", 32)
    before = fingerprint(directory)
    with pytest.raises(StoreDamaged, match="restore a backup"):
        await open_sqlite(directory)
    assert fingerprint(directory) == before


async def test_a_directory_that_is_in_use(tmp_path: Path) -> None:
    store = await open_sqlite(tmp_path)
    try:
        with pytest.raises(StoreLocked, match=r"in use by another process \(pid \d+\): stop it"):
            await open_sqlite(tmp_path)
        program = (
            "import asyncio, sys; from pathlib import Path; from minikube_py.store.sqlite import open_sqlite\n"
            "asyncio.run(open_sqlite(Path(sys.argv[1])))"
        )
        other = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path), stderr=asyncio.subprocess.PIPE)
        _, stderr = await other.communicate()
        assert other.returncode == 1
        assert b"StoreLocked" in stderr
        await store.commit(Write("/r/a", 0, b"x"))
    finally:
        await store.close()
    again = await open_sqlite(tmp_path)
    assert again.revision == 1
    await again.close()


async def test_an_older_format_is_migrated_after_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "data"
    await copy_of_a_running_log(directory)
    version = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", version + 1)

    def to_next(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE extra(x)")

    (directory / "log.db").chmod(0o600)
    store = await open_sqlite(directory, migrations={version: to_next})
    assert {(path.stat().st_mode & 0o777) for path in directory.glob("log.db*")} == {0o600}, "there are secrets in it"
    assert store.revision == 50
    assert (await store.commit(Write("/r/new", 0, b"x"))).revision == 51
    await store.close()
    await asyncio.to_thread(check, directory)
    old = sqlite3.connect(directory / f"log.db.v{version}")
    assert old.execute("PRAGMA user_version").fetchone() == (version,)
    assert old.execute("SELECT count(*) FROM log").fetchone() == (50,)
    old.close()
    again = await open_sqlite(directory)
    assert len((await again.range("/r/")).records) == 51
    await again.close()


async def test_a_migration_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "data"
    await fill(directory)
    version = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", version + 1)

    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE log(x)")

    before = fingerprint(directory)
    with pytest.raises(StoreError):
        await open_sqlite(directory, migrations={version: fails})
    assert fingerprint(directory) == before


def as_format_1(path: Path) -> None:
    """What format 2 changed is taken back: triggers keep the index at every row."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DELETE FROM meta WHERE name = 'indexed'")
    connection.execute(
        "CREATE TRIGGER log_live AFTER INSERT ON log WHEN NOT NEW.deleted BEGIN"
        " INSERT OR REPLACE INTO live VALUES (NEW.key, NEW.revision, NEW.create_revision); END"
    )
    connection.execute("CREATE TRIGGER log_dead AFTER INSERT ON log WHEN NEW.deleted BEGIN DELETE FROM live WHERE key = NEW.key; END")
    connection.execute("PRAGMA user_version = 1")
    row = "INSERT INTO log SELECT revision + ?, key, ?, ?, ?, value, time, actor, epoch, key_id FROM log WHERE revision = ?"
    connection.execute(row, (300, 1, 1, False, 1))
    connection.execute(row, (300, 2, 2, True, 2))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()


async def test_a_log_of_format_1_goes_on(tmp_path: Path) -> None:
    await fill(tmp_path)
    await asyncio.to_thread(as_format_1, tmp_path / files.DATABASE)
    store = await open_sqlite(tmp_path)
    assert store.revision == 302
    records = {record.key: record for record in (await store.range("/r/")).records}
    assert len(records) == 299
    assert records["/r/0"].revision == 301
    assert "/r/1" not in records
    await store.commit(Write("/r/0", 301, None))
    await store.commit(Write("/r/1", 0, b"again"))
    await store.close()
    await asyncio.to_thread(check, tmp_path)
    again = await open_sqlite(tmp_path)
    assert {record.key for record in (await again.range("/r/")).records} == {f"/r/{number}" for number in range(1, 300)}
    await again.close()


async def test_an_encrypted_value_without_its_key_is_refused(tmp_path: Path) -> None:
    class Cipher:
        def seal(self, key: str, value: bytes) -> tuple[bytes, int]:
            return bytes(b ^ 0x55 for b in value) + key.encode(), 7

        def open(self, key: str, stored: bytes, key_id: int) -> bytes:
            if key_id != 7 or not stored.endswith(key.encode()):
                raise StoreDamaged(f"the value of {key} does not belong to it")
            return bytes(b ^ 0x55 for b in stored[: -len(key.encode())])

    store = await open_sqlite(tmp_path, transformer=Cipher())
    await store.commit(Write("/r/a", 0, b"secret"))
    assert (await store.commit(Write("/r/a", 1, None))).value == b"secret"
    await store.commit(Write("/r/b", 0, b"secret"))
    found = await store.get("/r/b")
    assert found is not None
    assert found.value == b"secret"
    await store.close()
    assert b"secret" not in (tmp_path / files.DATABASE).read_bytes()
    store = await open_sqlite(tmp_path)
    with pytest.raises(StoreDamaged, match="encrypted with key 7"):
        await store.get("/r/b")
    await store.close()
