"""Events go when their time is up, by the age of their last write."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import aclosing
from pathlib import Path

from minikube_py.aio import SystemClock
from minikube_py.apiserver.expiry import expire, keep_events
from minikube_py.apiserver.watch import watch

from .support_cache import CONFIGMAPS, EVENTS, Cluster, Lines, cluster


def names(c: Cluster) -> list[str]:
    return [entry.name for entry in c.cache.of(EVENTS).entries()]


async def test_an_event_goes_unless_it_was_written_since(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.put(CONFIGMAPS, "ns", "old")
        await c.put(EVENTS, "ns", "old", relaxed=True)
        await c.put(EVENTS, "ns", "counted on", relaxed=True)
        await asyncio.sleep(0.05)
        then = time.time()
        await asyncio.sleep(0.05)
        await c.put(EVENTS, "ns", "counted on", relaxed=True, count=2)
        last = await c.put(EVENTS, "ns", "new", relaxed=True)
    # after another start too
    async with cluster(tmp_path) as c:
        await expire(c.store, c.cache, await c.store.revision_at(then))
        assert names(c) == ["counted on", "new"]
        assert c.cache.of(CONFIGMAPS).get("ns", "old") is not None
        async with aclosing(watch(c.cache, EVENTS, since=last.revision)) as chunks:
            assert [line[:2] for line in await Lines(chunks).take(1)] == [("DELETED", "old")]


async def test_one_that_is_written_meanwhile_stays(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        records = [await c.put(EVENTS, "ns", f"e{number:03}", relaxed=True) for number in range(250)]
        expiring = asyncio.ensure_future(expire(c.store, c.cache, records[-1].revision))
        await c.put(EVENTS, "ns", "e000", relaxed=True, count=2)
        await c.put(EVENTS, "ns", "e249", relaxed=True, count=2)
        await expiring
        assert "e249" in names(c) and set(names(c)) <= {"e000", "e249"}


async def test_they_are_looked_for_again_and_again(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        looking = asyncio.ensure_future(keep_events(c.store, c.cache, c.store.revision_at, 1.0, SystemClock()))
        for name in ("first", "second"):
            made = await c.put(EVENTS, "ns", name, relaxed=True)
            await c.store.flush()
            assert names(c) == [name]
            async with aclosing(watch(c.cache, EVENTS, since=made.revision)) as chunks:
                assert [line[:2] for line in await Lines(chunks).take(1)] == [("DELETED", name)]
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
