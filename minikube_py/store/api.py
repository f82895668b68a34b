"""The datastore interface: a keyed log of revisions, as etcd v3 has it.

Why: the API server needs compare-and-swap, range reads at a revision, and watches, and must not know which engine gives them.
No SQL and no gRPC appear above this module. What flows through: opaque values (bytes) under slash-separated keys.

What always holds, whatever the engine:
- revisions are unique, increase by one log-wide order, and are never used twice, not even after a power cut;
- a commit is acknowledged only when it is durable (unless the write itself asked for relaxed durability);
- `on_commit` listeners see every record once, in revision order, before the writer gets its acknowledgement;
- a read or watch below the floor raises `Compacted`.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple, Protocol


class StoreError(Exception):
    """The root of everything that a store raises."""


class RevisionMismatch(StoreError):
    """Compare-and-swap lost: the key is not at the expected revision. `actual` is 0 where the key does not exist."""

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(f"{key}: expected revision {expected}, is at {actual}")
        self.key, self.expected, self.actual = key, expected, actual


class Compacted(StoreError):
    """The asked revision is below the floor; `floor` is the oldest one that can still be read."""

    def __init__(self, revision: int, floor: int) -> None:
        super().__init__(f"revision {revision} has been compacted, the oldest is {floor}")
        self.revision, self.floor = revision, floor


class FutureRevision(StoreError):
    """The asked revision has not been written yet; `current` is the newest."""

    def __init__(self, revision: int, current: int) -> None:
        super().__init__(f"revision {revision} is in the future, the newest is {current}")
        self.revision, self.current = revision, current


class StoreFull(StoreError):
    """The file system under the log is full: nothing was written; reads go on, writes work again once there is space."""


class StoreDamaged(StoreError):
    """The file is not a sound log of ours. It is left untouched; the message says what the operator can do."""


class StoreTooNew(StoreError):
    """The file was written by a newer program. It is left untouched."""


class StoreLocked(StoreError):
    """Another process has this data directory open."""


class StoreClosed(StoreError):
    """The store was closed while the call waited."""


class Durability(enum.Enum):
    """How hard a write is kept: DURABLE survives a power cut once acknowledged; RELAXED (node leases, events) may lose the last minute."""

    DURABLE = "durable"
    RELAXED = "relaxed"


class Write(NamedTuple):
    """One wanted change. `expected` is the revision that the key must be at: 0 means that it must not exist. `value` None deletes."""

    key: str
    expected: int
    value: bytes | None
    actor: str = ""
    durability: Durability = Durability.DURABLE


class Record(NamedTuple):
    """One row of the log. A tombstone (`deleted`) carries the last value, so that a watcher can be told what went away."""

    key: str
    revision: int
    create_revision: int
    prev_revision: int
    deleted: bool
    value: bytes


class Page(NamedTuple):
    """One page of a range read: records in key order, all as of `revision`; `remaining` counts the keys after the page."""

    records: Sequence[Record]
    revision: int
    remaining: int


class Transformer(Protocol):
    """Turns values into what is stored and back; bound to the key, so that a value cannot be moved to another one."""

    def seal(self, key: str, value: bytes) -> tuple[bytes, int]:
        """The stored form of a value and the id of the encryption key that made it (0: none)."""

    def open(self, key: str, stored: bytes, key_id: int) -> bytes:
        """The value again; raises StoreDamaged where it does not belong to the key."""


class Store(Protocol):
    """What an engine gives. All methods belong to the event loop that opened it."""

    @property
    def revision(self) -> int:
        """The newest revision that has been published."""

    @property
    def floor(self) -> int:
        """The API floor: reads and watches below it raise Compacted."""

    async def read_index(self) -> int:
        """A revision that every write acknowledged before this call is at or below; stands before each consistent read."""

    async def commit(self, write: Write) -> Record:
        """Apply one write, durably. Raises RevisionMismatch, StoreFull, StoreClosed."""

    async def get(self, key: str, revision: int = 0) -> Record | None:
        """The record of a key as of a revision (0: now), None where it does not exist there."""

    async def range(self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0) -> Page:
        """Live records under a prefix, in key order, as of a revision (0: now). Raises Compacted, FutureRevision."""

    def since(self, prefix: str, revision: int, until: int) -> AsyncIterator[Sequence[Record]]:
        """Every record (tombstones too) under a prefix with revision < r <= until, in order, in batches. Raises Compacted."""

    def on_commit(self, listener: Callable[[Sequence[Record]], None]) -> None:
        """Call `listener` with every committed batch, in order, in the loop, before the writers are acknowledged."""

    async def compact(self, revision: int) -> None:
        """Raise the API floor to a revision. Space is returned incrementally; writes are never blocked for long."""

    async def close(self) -> None:
        """Write what relaxed writes left pending, checkpoint, mark a clean end, let go of the files."""
