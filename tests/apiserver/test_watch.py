"""Watches as a client sees them: from now, from a revision, with selectors, with bookmarks; and what ends them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from minikube_py.apiserver.cache import Bounds
from minikube_py.apiserver.entries import Entry
from minikube_py.apiserver.watch import Interest, candidates, select, watch
from minikube_py.store.api import Write

from .support_cache import CONFIGMAPS, NODES, PODS, Cluster, Lines, cluster, encode, short


def labelled(value: str) -> Interest:
    return Interest(matches=lambda entry: entry.labels.get("app") == value)


async def test_the_present_then_what_comes(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.put(CONFIGMAPS, "ns", "b")
        await c.put(CONFIGMAPS, "ns", "a")
        async with aclosing(watch(c.cache, CONFIGMAPS, since=None)) as chunks:
            lines = Lines(chunks)
            assert await lines.take(2) == [("ADDED", "a", 2), ("ADDED", "b", 1)]
            assert await lines.nothing()
        async with aclosing(watch(c.cache, CONFIGMAPS, since=None)) as chunks:
            lines = Lines(chunks)
            await lines.take(2)
            reading = asyncio.ensure_future(lines.take(4))
            await asyncio.sleep(0.01)
            await c.put(CONFIGMAPS, "ns", "c", data={"x": "1"})
            await c.put(CONFIGMAPS, "ns", "c", data={"x": "2"})
            await c.put(NODES, "", "not of this kind")
            await c.delete(CONFIGMAPS, "ns", "c")
            await c.put(CONFIGMAPS, "ns", "c")
            assert await reading == [("ADDED", "c", 3), ("MODIFIED", "c", 4), ("DELETED", "c", 6), ("ADDED", "c", 7)]


async def test_a_deleted_object_is_told_as_it_was_last(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.put(CONFIGMAPS, "ns", "a", data={"x": "last"})
        await c.delete(CONFIGMAPS, "ns", "a")
        async with aclosing(watch(c.cache, CONFIGMAPS, since=1)) as chunks:
            event = await Lines(chunks).next()
        assert event is not None
        assert event["type"] == "DELETED"
        assert event["object"]["data"] == {"x": "last"}
        assert event["object"]["metadata"]["resourceVersion"] == "2"


@pytest.mark.parametrize("ring", [Bounds(), Bounds(events=0)], ids=["from the ring", "from the log"])
async def test_resuming_behind_a_revision(tmp_path: Path, ring: Bounds) -> None:
    async with cluster(tmp_path, bounds=ring) as c:
        for name in "abc":
            await c.put(CONFIGMAPS, "ns", name)
        await c.put(CONFIGMAPS, "ns", "b", data={"x": "y"})
        await c.delete(CONFIGMAPS, "ns", "a")
        await c.put(CONFIGMAPS, "other", "d", relaxed=True)
        await c.put(CONFIGMAPS, "other", "d", relaxed=True, data={"x": "y"})
        expected = [
            ("ADDED", "a", 1), ("ADDED", "b", 2), ("ADDED", "c", 3), ("MODIFIED", "b", 4), ("DELETED", "a", 5),
            ("ADDED", "d", 6), ("MODIFIED", "d", 7),
        ]  # fmt: skip
        for since in range(1, 8):
            async with aclosing(watch(c.cache, CONFIGMAPS, since=since)) as chunks:
                assert await Lines(chunks).take(7 - since) == expected[since:]
            async with aclosing(watch(c.cache, CONFIGMAPS, Interest(namespace="ns"), since=since)) as chunks:
                wanted = [event for event in expected[since:] if event[1] != "d"]
                assert await Lines(chunks).take(len(wanted)) == wanted


@pytest.mark.parametrize("ring", [Bounds(), Bounds(events=0)], ids=["from the ring", "from the log"])
async def test_objects_enter_and_leave_a_selector(tmp_path: Path, ring: Bounds) -> None:
    async with cluster(tmp_path, bounds=ring) as c:
        await c.put(PODS, "ns", "p", labels={"app": "other"}, spec={"n": 1})
        await c.put(PODS, "ns", "p", labels={"app": "web"}, spec={"n": 2})
        await c.put(PODS, "ns", "p", labels={"app": "web"}, spec={"n": 3})
        await c.put(PODS, "ns", "p", labels={"app": "gone"}, spec={"n": 4})
        await c.put(PODS, "ns", "p", labels={"app": "gone"}, spec={"n": 5})
        await c.put(PODS, "ns", "p", labels={"app": "web"}, spec={"n": 6})
        await c.delete(PODS, "ns", "p")
        await c.put(PODS, "ns", "q", labels={"app": "other"})
        await c.delete(PODS, "ns", "q")
        expected = [("ADDED", 2, 2), ("MODIFIED", 3, 3), ("DELETED", 3, 4), ("ADDED", 6, 6), ("DELETED", 6, 7)]
        for since in range(1, 8):
            told: list[tuple[str, int, int]] = []
            async with aclosing(watch(c.cache, PODS, labelled("web"), since=since, timeout=0.05)) as chunks:
                lines = Lines(chunks)
                while (event := await lines.next()) is not None:
                    told.append((event["type"], event["object"]["spec"]["n"], int(event["object"]["metadata"]["resourceVersion"])))
            assert told == [event for event in expected if event[2] > since], since


async def test_a_kubelet_hears_of_its_pods_only(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        interest = Interest(node="one", matches=lambda entry: entry.fields["spec.nodeName"] == "one")
        await c.put(PODS, "ns", "mine", spec={"nodeName": "one"})
        await c.put(PODS, "ns", "theirs", spec={"nodeName": "two"})
        looked: list[str] = []

        def matches(entry: Entry) -> bool:
            looked.append(entry.name)
            return entry.node == "one"

        async with aclosing(watch(c.cache, PODS, Interest(node="one", matches=matches), since=None)) as chunks:
            lines = Lines(chunks)
            assert await lines.take(1) == [("ADDED", "mine", 1)]
            reading = asyncio.ensure_future(lines.take(2))
            await asyncio.sleep(0.01)
            for number in range(50):
                await c.put(PODS, "ns", "theirs", spec={"nodeName": "two", "n": number})
            await c.put(PODS, "ns", "new")
            bound = await c.put(PODS, "ns", "new", spec={"nodeName": "one"})
            deleted = await c.delete(PODS, "ns", "mine")
            assert await reading == [("ADDED", "new", bound.revision), ("DELETED", "mine", deleted.revision)]
        assert set(looked) == {"mine", "new"}, "other nodes' pods are not even looked at"
        assert [entry.name for entry in select(candidates(c.cache.of(PODS), interest), interest)] == ["new"]


async def test_many_watchers_hear_the_same_bytes(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        streams = [watch(c.cache, CONFIGMAPS, since=0) for _ in range(50)]
        readers = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await asyncio.sleep(0.01)
        await c.put(CONFIGMAPS, "ns", "a")
        chunks = await asyncio.gather(*readers)
        assert len(set(chunks)) == 1
        assert short(json.loads(chunks[0])) == ("ADDED", "a", 1)
        for stream in streams:
            await stream.aclose()


async def test_many_watchers_of_fast_writes_hear_everything_in_few_rounds(tmp_path: Path) -> None:
    """What comes fast is told together: each of many watchers hears every event once, in order, in far fewer chunks than commits."""

    async def read(stream: AsyncGenerator[bytes, None]) -> tuple[list[int], int]:
        revisions: list[int] = []
        chunks = 0
        async for chunk in stream:
            chunks += 1
            revisions += [json.loads(line)["object"]["metadata"]["resourceVersion"] for line in chunk.splitlines()]
            if len(revisions) >= 100:
                break
        await stream.aclose()
        return list(map(int, revisions)), chunks

    async with cluster(tmp_path) as c:
        readers = [asyncio.ensure_future(read(watch(c.cache, CONFIGMAPS, Interest(namespace="ns"), since=0))) for _ in range(150)]
        await asyncio.sleep(0.05)
        for number in range(100):
            await c.put(CONFIGMAPS, "ns", f"n{number}")
        heard = await asyncio.wait_for(asyncio.gather(*readers), 10)
        assert all(revisions == list(range(1, 101)) for revisions, _ in heard)
        assert max(chunks for _, chunks in heard) < 60


async def test_the_first_change_after_a_rest_is_told_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        streams = [watch(c.cache, CONFIGMAPS, since=0) for _ in range(200)]
        readers = [asyncio.ensure_future(anext(stream)) for stream in streams]
        await asyncio.sleep(0.05)
        channel = c.cache.of(CONFIGMAPS).ring.all
        await c.put(CONFIGMAPS, "ns", "a")
        assert channel.in_round, "woken as the write is published, not at a time to come"
        await asyncio.gather(*readers)
        await asyncio.sleep(0)
        assert not channel.in_round and not channel.told, "what was made for this round is let go with it"
        for stream in streams:
            await stream.aclose()


async def test_events_of_one_batch_come_in_one_chunk(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        stream = watch(c.cache, CONFIGMAPS, since=0)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
        await asyncio.gather(*(c.put(CONFIGMAPS, "ns", f"n{i}") for i in range(40)))
        events = (await reading).splitlines()
        while len(events) < 40:
            events += (await anext(stream)).splitlines()
        assert [int(json.loads(e)["object"]["metadata"]["resourceVersion"]) for e in events] == list(range(1, 41))
        await stream.aclose()


async def test_bookmarks(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.put(CONFIGMAPS, "ns", "a")
        await c.put(NODES, "", "n")
        async with aclosing(watch(c.cache, CONFIGMAPS, since=1, bookmarks=True, bookmark_interval=0.02)) as chunks:
            event = await Lines(chunks).next()
        assert event == {"type": "BOOKMARK", "object": {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": "2"}}}
        async with aclosing(watch(c.cache, CONFIGMAPS, since=2, timeout=0.01, bookmarks=True)) as chunks:
            assert await Lines(chunks).rest() == [("BOOKMARK", "", 2)]
        async with aclosing(watch(c.cache, CONFIGMAPS, since=2, timeout=0.01)) as chunks:
            assert await Lines(chunks).rest() == []


async def test_initial_events_end_with_a_mark(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        for name in "ab":
            await c.put(CONFIGMAPS, "ns", name)
        await c.put(NODES, "", "n")
        async with aclosing(watch(c.cache, CONFIGMAPS, since=None, bookmarks=True, send_initial_events=True)) as chunks:
            lines = Lines(chunks)
            assert await lines.take(2) == [("ADDED", "a", 1), ("ADDED", "b", 2)]
            mark: Any = await lines.next()
            assert mark["type"] == "BOOKMARK"
            assert mark["object"]["metadata"] == {"resourceVersion": "3", "annotations": {"k8s.io/initial-events-end": "true"}}
            await c.put(CONFIGMAPS, "ns", "c")
            assert await lines.take(1) == [("ADDED", "c", 4)]


async def test_too_old_a_revision_is_an_error_event(tmp_path: Path) -> None:
    async with cluster(tmp_path, bounds=Bounds(events=0)) as c:
        for number in range(5):
            await c.put(CONFIGMAPS, "ns", "a", data={"n": str(number)})
        await c.store.compact(4)
        async with aclosing(watch(c.cache, CONFIGMAPS, since=2)) as chunks:
            lines = Lines(chunks)
            event: Any = await lines.next()
            assert event["type"] == "ERROR"
            assert (event["object"]["kind"], event["object"]["code"], event["object"]["reason"]) == ("Status", 410, "Expired")
            assert event["object"]["message"] == "too old resource version: 2 (4)"
            assert await lines.next() is None
        async with aclosing(watch(c.cache, CONFIGMAPS, since=4)) as chunks:
            assert await Lines(chunks).take(1) == [("MODIFIED", "a", 5)]


async def test_a_revision_below_the_floor_is_too_old_although_the_ring_has_it(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        for number in range(5):
            await c.put(CONFIGMAPS, "ns", "a", data={"n": str(number)})
        await c.store.compact(4)
        async with aclosing(watch(c.cache, CONFIGMAPS, since=2)) as chunks:
            assert [event[0] for event in await Lines(chunks).rest()] == ["ERROR"]


async def test_one_who_reads_too_slowly_is_let_go_and_may_resume(tmp_path: Path) -> None:
    async with cluster(tmp_path, bounds=Bounds(events=10)) as c:
        stream = watch(c.cache, CONFIGMAPS, since=0)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.01)
        await c.put(CONFIGMAPS, "ns", "first")
        assert short(json.loads(await reading)) == ("ADDED", "first", 1)
        for number in range(30):
            await c.put(CONFIGMAPS, "ns", f"n{number}")
        assert await Lines(stream).rest() == [], "not held up for him: the stream ends"
        async with aclosing(watch(c.cache, CONFIGMAPS, since=1)) as chunks:
            assert [event[2] for event in await Lines(chunks).take(30)] == list(range(2, 32))


async def test_a_node_that_is_quiet_for_long_is_not_overrun(tmp_path: Path) -> None:
    async with cluster(tmp_path, bounds=Bounds(events=10)) as c, aclosing(watch(c.cache, PODS, Interest(node="one"), since=0)) as chunks:
        reading = asyncio.ensure_future(Lines(chunks).take(1))
        await asyncio.sleep(0.01)
        for number in range(30):
            await c.put(PODS, "ns", "theirs", spec={"nodeName": "two", "n": number})
        mine = await c.put(PODS, "ns", "mine", spec={"nodeName": "one"})
        assert await reading == [("ADDED", "mine", mine.revision)]


async def test_the_ring_is_bounded_by_bytes(tmp_path: Path) -> None:
    async with cluster(tmp_path, bounds=Bounds(events=1000, bytes=100_000)) as c:
        for number in range(40):
            await c.put(PODS, "ns", "p", spec={"nodeName": f"node{number % 3}", "pad": "x" * 5000})
        ring = c.cache.of(PODS).ring
        assert 15 < len(ring.all) < 20
        for node in range(3):
            channel = ring.open(f"node{node}")
            assert 0 < len(channel) < 15
            ring.close(f"node{node}", channel)


async def test_the_ring_lets_go_of_what_is_old_and_the_log_tells_it(tmp_path: Path) -> None:
    async with cluster(tmp_path, bounds=Bounds(seconds=1.0)) as c:
        ring = c.cache.of(PODS).ring
        seen = []
        for name in "abc":
            await c.put(PODS, "ns", name, spec={"nodeName": "one"})
            seen.append(len(ring.all))
            await asyncio.sleep(0.3)
        async with asyncio.timeout(5):
            while seen[-1]:
                seen.append(len(ring.all))
                await asyncio.sleep(0.02)
        assert sorted(set(seen)) == [0, 1, 2, 3] and seen.index(3) < len(seen) - 1 - seen[::-1].index(2), "each for its own time"
        for interest in (Interest(), Interest(node="one")):
            async with aclosing(watch(c.cache, PODS, interest, since=1)) as chunks:
                assert [name for _, name, _ in await Lines(chunks).take(2)] == ["b", "c"]


async def test_a_watch_ends_with_its_resource(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        reading = asyncio.ensure_future(Lines(watch(c.cache, CONFIGMAPS, since=0)).rest())
        await asyncio.sleep(0.01)
        c.cache.remove(CONFIGMAPS)
        assert await asyncio.wait_for(reading, 1) == []


async def test_another_form_is_made_by_the_watcher(tmp_path: Path) -> None:
    async with cluster(tmp_path) as c:
        await c.put(PODS, "ns", "p", labels={"app": "web"}, spec={"n": 1})
        await c.put(PODS, "ns", "p", labels={"app": "gone"}, spec={"n": 2})

        def line(type_: str, entry: Entry) -> bytes:
            return (
                json.dumps(
                    {"type": type_, "object": {"metadata": {"name": str(entry.decode()["spec"]["n"]), "resourceVersion": entry.revision}}}
                ).encode()
                + b"\n"
            )

        async with aclosing(watch(c.cache, PODS, labelled("web"), since=0, encode=line)) as chunks:
            assert await Lines(chunks).take(2) == [("ADDED", "1", 1), ("DELETED", "1", 2)]


@pytest.mark.parametrize("seed", range(6))
async def test_whoever_follows_a_selector_ends_with_the_list(tmp_path: Path, seed: int) -> None:
    """Random changes; watchers that start anywhere, are slow, get lost and resume hold in the end exactly what a list would give."""
    rng = random.Random(seed)
    async with cluster(tmp_path, bounds=Bounds(events=15)) as c:
        stop = asyncio.Event()
        interests = [
            Interest(),
            labelled("web"),
            Interest(namespace="a"),
            Interest(node="one"),
            Interest(namespace="b", matches=labelled("web").matches),
        ]
        followers = [asyncio.ensure_future(follow(c, interest, stop, random.Random(seed + i))) for i, interest in enumerate(interests * 2)]
        for _ in range(300):
            namespace, name = rng.choice("ab"), rng.choice("klmnop")
            if rng.random() < 0.25 and c.cache.of(PODS).get(namespace, name) is not None:
                await c.delete(PODS, namespace, name)
            else:
                labels = {"app": rng.choice(("web", "other"))}
                await c.put(PODS, namespace, name, labels, rng.random() < 0.3, spec={"nodeName": rng.choice(("", "one", "two"))})
            if rng.random() < 0.1:
                await asyncio.sleep(0.002)
            if rng.random() < 0.05:
                await c.store.flush()
        stop.set()
        await c.put(PODS, "a", "k", labels={"app": "web"}, spec={"nodeName": "one"})
        for interest, states in zip(interests * 2, await asyncio.gather(*followers), strict=True):
            expected = {entry.key: entry.revision for entry in select(candidates(c.cache.of(PODS), interest), interest)}
            assert states == expected


async def follow(c: Cluster, interest: Interest, stop: asyncio.Event, rng: random.Random) -> dict[str, int]:
    """A client: lists, watches from there, takes it slowly, starts again where it was cut off."""
    seen = c.cache.revision
    state = {entry.key: entry.revision for entry in select(candidates(c.cache.of(PODS), interest), interest)}
    while True:
        last = stop.is_set()
        # Resuming at a bookmark, or at the last event, is what clients do.
        async with aclosing(watch(c.cache, PODS, interest, since=seen, timeout=rng.choice((0.01, 0.05)), bookmarks=True)) as chunks:
            async for chunk in chunks:
                for line in chunk.splitlines():
                    event = json.loads(line)
                    metadata = event["object"]["metadata"]
                    revision = int(metadata["resourceVersion"])
                    assert revision > seen or (event["type"] == "BOOKMARK" and revision >= seen)
                    seen = revision
                    if event["type"] == "BOOKMARK":
                        continue
                    key = PODS.key(metadata["namespace"], metadata["name"])
                    assert (event["type"] == "ADDED") == (key not in state), (event["type"], key)
                    if event["type"] == "DELETED":
                        del state[key]
                    else:
                        state[key] = revision
                if rng.random() < 0.3:
                    await asyncio.sleep(rng.random() / 50)
        if last and seen == c.cache.revision:
            return state


async def test_a_lease_renewed_in_memory_is_watched_like_any_other(tmp_path: Path) -> None:
    async with cluster(tmp_path, bounds=Bounds(events=0)) as c:
        for number in range(5):
            await c.put(CONFIGMAPS, "ns", "lease", relaxed=True, data={"n": str(number)})
        await c.store.commit(Write(CONFIGMAPS.key("ns", "b"), 0, encode(CONFIGMAPS, "ns", "b")))
        async with aclosing(watch(c.cache, CONFIGMAPS, since=2)) as chunks:
            assert [event[2] for event in await Lines(chunks).take(4)] == [3, 4, 5, 6]
