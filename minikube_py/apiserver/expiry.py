"""Events go when nothing has been added to them for a time: kube-apiserver's --event-ttl, which upstream leaves to etcd's leases.

What flows through: the revision that the log had reached that long ago in, deletes of the Events at or below it out. The age is that of an
Event's last write, whatever times it tells of itself, and a restart does not begin it anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from minikube_py.aio import Clock
from minikube_py.apiserver.cache import Cache
from minikube_py.store.api import Durability, RevisionMismatch, Store, Write
from minikube_py.types.core import Event

RevisionAt = Callable[[float], Awaitable[int]]
"""The newest revision written at or before a time (seconds since the epoch)."""

_ACTOR = "event-ttl"
_AT_ONCE = 100
_LOOKS = 60.0


async def keep_events(store: Store, cache: Cache, revision_at: RevisionAt, ttl: float, clock: Clock) -> None:
    """Look every minute, or more often for a short `ttl` (seconds), until cancelled. Raises what the store raises."""
    while True:
        await asyncio.sleep(min(_LOOKS, max(1.0, ttl / 4)))
        await expire(store, cache, await revision_at(clock.time() - ttl))


async def expire(store: Store, cache: Cache, until: int) -> None:
    """Delete the Events whose last write is at or below a revision; one that is written meanwhile stays."""
    past = [entry for entry in cache.of(Event.resource).entries() if entry.revision <= until]
    for start in range(0, len(past), _AT_ONCE):
        writes = (
            store.commit(Write(entry.key, entry.revision, None, _ACTOR, Durability.RELAXED)) for entry in past[start : start + _AT_ONCE]
        )
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, RevisionMismatch):
                raise outcome
