"""Relaxed writes: what was acknowledged from memory and is not on disk yet.

Why: node leases and events must not wear out an SD card. They take their revisions from a block that is reserved durably, are published
like any write, and go to disk together, the last one of each key only. What flows through: records in at their acknowledgement, rows out
at a flush; reads at a revision and `since` look here as well as on disk.

What always holds:
- `pending` has what a flush must write: of each key its newest record, and a tombstone where a new object took the key after it, so that
  two objects are never melted into one;
- a record that was superseded before it got to disk stays readable as a shadow until the floor passes it or shadows outgrow their bound;
- a row that is flushed names as prev_revision the newest row of its key that is on disk, so that the rows on disk are chained without gaps.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from minikube_py.store.api import Record

_OVERHEAD = 200
"""Bytes that a record costs beside its key and value, roughly."""

_revision = attrgetter("revision")


class _Held:
    """A record in memory, and the revision that superseded it (0: none)."""

    __slots__ = ("record", "revision", "until")

    def __init__(self, record: Record) -> None:
        self.record, self.revision, self.until = record, record.revision, 0


class Pending(NamedTuple):
    """A record that a flush has to write; `row_prev` is the prev_revision of the row."""

    record: Record
    row_prev: int
    time: int
    actor: str


class RelaxedLog:
    """The records that are in memory only."""

    def __init__(self, shadow_bytes: int = 4 << 20) -> None:
        self._versions: dict[str, list[_Held]] = {}
        self._pending: dict[str, list[Pending]] = {}
        self._shadows: deque[_Held] = deque()
        self._shadow_bytes, self._shadow_limit = 0, shadow_bytes
        self.pending_bytes = 0

    def __bool__(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._pending)

    # Writing

    def put(self, record: Record, time: int, actor: str) -> None:
        """Take a record that has just been acknowledged; the newest of its key."""
        waiting = self._pending.setdefault(record.key, [])
        versions = self._versions.setdefault(record.key, [])
        row_prev = record.prev_revision
        if waiting:
            versions[-1].until = record.revision
            if not waiting[-1].record.deleted:
                replaced = waiting.pop()
                row_prev = replaced.row_prev
                self.pending_bytes -= _size(replaced.record)
                self._shadow(versions[-1])
        waiting.append(Pending(record, row_prev, time, actor))
        self.pending_bytes += _size(record)
        versions.append(_Held(record))
        self._bound()

    def of(self, keys: Iterable[str]) -> list[Pending]:
        """What waits under these keys, in revision order."""
        found = [item for key in keys if key in self._pending for item in self._pending[key]]
        return sorted(found, key=lambda item: item.record.revision)

    def all(self) -> list[Pending]:
        """Everything that waits, in revision order."""
        return self.of(self._pending)

    def persisted(self, items: Sequence[Pending]) -> None:
        """Let go of items that are on disk now."""
        for item in items:
            record = item.record
            waiting = self._pending[record.key]
            waiting.remove(item)
            if not waiting:
                del self._pending[record.key]
            self.pending_bytes -= _size(record)
            self._forget(record.key, record.revision)

    def trim(self, floor: int) -> None:
        """Drop the shadows that no read at or above the floor can see."""
        while self._shadows and self._shadows[0].until <= floor:
            self._drop_oldest_shadow()

    def _shadow(self, held: _Held) -> None:
        self._shadows.append(held)
        self._shadow_bytes += _size(held.record)

    def _bound(self) -> None:
        while self._shadow_bytes > self._shadow_limit:
            self._drop_oldest_shadow()

    def _drop_oldest_shadow(self) -> None:
        held = self._shadows.popleft()
        self._shadow_bytes -= _size(held.record)
        self._forget(held.record.key, held.revision)

    def _forget(self, key: str, revision: int) -> None:
        versions = self._versions[key]
        del versions[bisect_left(versions, revision, key=_revision)]
        if not versions:
            del self._versions[key]

    # Reading

    def newest(self, key: str, revision: int) -> Record | None:
        """The newest record in memory of a key at or below a revision, unless it is known to have been superseded there; there may be a
        newer one on disk."""
        versions = self._versions.get(key)
        if versions is None:
            return None
        index = bisect_right(versions, revision, key=_revision)
        if not index:
            return None
        held = versions[index - 1]
        return None if held.until and held.until <= revision else held.record

    def under(self, prefix: str, revision: int) -> Mapping[str, Record]:
        """The newest record in memory at or below a revision of every key under a prefix, tombstones included."""
        found = ((key, self.newest(key, revision)) for key in self._versions if key.startswith(prefix))
        return {key: record for key, record in found if record is not None}

    def since(self, prefix: str, revision: int, until: int) -> list[Record]:
        """The records in memory with revision < r <= until under a prefix, in order."""
        found = [
            held.record
            for key, versions in self._versions.items()
            if key.startswith(prefix)
            for held in versions
            if revision < held.revision <= until
        ]
        return sorted(found, key=_revision)


def _size(record: Record) -> int:
    return len(record.key) + len(record.value) + _OVERHEAD
