"""The timer that moves the floors: old revisions expire for clients every few minutes, and leave the disk much later.

Two floors, since they serve two kinds of readers. Clients (lists in pages, watches that resume) rely on upstream's five minutes: at every
turn the API floor goes to where the log was one turn ago. History (diff, undo) is kept as long and as large as the user wants.

What always holds: an idle log is not written to; the history floor is at most the API floor.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from minikube_py.aio import Clock
from minikube_py.store.sqlite import SQLiteStore

API_SECONDS = 300.0


class Retention(NamedTuple):
    """How much history is kept: at most so many seconds, and about so many bytes of file (0: no bound)."""

    seconds: float = 24 * 3600.0
    bytes: int = 512 << 20


async def keep_floors(store: SQLiteStore, retention: Retention, clock: Clock, interval: float = API_SECONDS) -> None:
    """Move the floors every `interval` seconds until cancelled. Raises what the store raises; a supervisor starts it again."""
    before = store.revision
    while True:
        await asyncio.sleep(interval)
        now = store.revision
        await move_floors(store, retention, clock.time(), before)
        before = now


async def move_floors(store: SQLiteStore, retention: Retention, now: float, api_floor: int) -> None:
    """One turn: the API floor goes to `api_floor`, the history floor to where the retention puts it."""
    await store.compact(api_floor)
    target = await store.revision_at(now - retention.seconds)
    if retention.bytes:
        target = max(target, over_size(await store.used_bytes(), retention.bytes, store.history_floor, store.floor))
    if target > store.history_floor:
        await store.compact_history(target)


def over_size(used: int, allowed: int, history_floor: int, api_floor: int) -> int:
    """The history floor that brings a log to its size, as far as can be told beforehand: what is over is taken from the old end, by its
    share. What lives takes room as well, so that several turns may be needed; the API floor is the limit."""
    if used <= allowed:
        return history_floor
    share = (used - allowed) / used
    return min(api_floor, history_floor + max(1, int((api_floor - history_floor) * share)))
