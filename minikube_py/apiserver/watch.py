"""Watches: what a client that has seen everything up to a revision must be told, as lines of a watch response.

A watch starts with the current objects, or with what the log has since a revision; then it reads the ring. What flows through: entries
and events in, chunks of joined lines out. What always holds:

- events come in revision order, each once; with a selector, an object that begins to match is ADDED, one that ceases to is DELETED, and
  the object told then is the last one that matched, under the revision of the change;
- a revision below the store's floor gets one ERROR event with 410 Expired, and the end;
- a watcher that reads too slowly, so that the ring has gone past its cursor, ends, and may resume at its last revision from the log;
  whoever carries its chunks asks Progress while the client takes none of them, since then nothing here has its turn;
- a bookmark names a revision up to which the client has been told everything.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import NamedTuple

import orjson

from minikube_py.apiserver.cache import Cache, ResourceCache
from minikube_py.apiserver.entries import ADDED, BOOKMARK, DELETED, ERROR, MODIFIED, Entry, Event, frame
from minikube_py.apiserver.ring import Channel, Sleeper
from minikube_py.meta.errors import Expired, StatusError
from minikube_py.resources.api import Resource
from minikube_py.store.api import Compacted

CHUNK = 128 << 10
"""Bytes after which lines are handed on."""

BOOKMARK_SECONDS = 60.0

Encode = Callable[[str, Entry], bytes]
"""Makes the line of an event (type, object) for a watcher who does not want the stored form: another version, a Table."""

EncodeBookmark = Callable[[int, bool], bytes]
"""Makes the line of a bookmark: its revision, and whether it ends the initial events."""


class Interest(NamedTuple):
    """What a watcher wants to hear of. `matches` is the selectors' predicate; `node` says that only pods bound to that node can match."""

    namespace: str | None = None
    name: str | None = None
    matches: Callable[[Entry], bool] | None = None
    node: str | None = None

    def place(self, entry: Entry) -> bool:
        """Whether an object of this key can be of interest, whatever is in it."""
        return (self.namespace is None or entry.namespace == self.namespace) and (self.name is None or entry.name == self.name)

    def content(self, entry: Entry) -> bool:
        """Whether an object matches the selectors."""
        return (self.node is None or entry.node == self.node) and (self.matches is None or self.matches(entry))

    @property
    def selects(self) -> bool:
        """Whether an object can begin and cease to match."""
        return self.matches is not None or self.node is not None


def candidates(cache: ResourceCache, interest: Interest) -> Sequence[Entry]:
    """The current objects among which those of interest are, in key order. Not to be changed; stays as it is when objects change."""
    if interest.name is not None and (interest.namespace is not None or not cache.resource.ref.namespaced):
        entry = cache.get(interest.namespace or "", interest.name)
        return () if entry is None else (entry,)
    return cache.entries(interest.namespace, node=interest.node)


def select(entries: Iterable[Entry], interest: Interest) -> list[Entry]:
    """Those of interest."""
    return [entry for entry in entries if interest.place(entry) and interest.content(entry)]


class Progress:
    """How far a watch has come."""

    __slots__ = ("_channel", "_deadline", "_position")

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._position = 0
        self._deadline = float("inf")

    def until(self, deadline: float) -> None:
        """By the loop's clock, the watch ends then."""
        self._deadline = deadline

    def told(self, channel: Channel, position: int) -> None:
        """What comes before a position of the channel is told, or on its way."""
        self._channel, self._position = channel, position

    def over(self) -> bool:
        """Whether a client that takes nothing now has missed something for good, or its time is over."""
        late = asyncio.get_running_loop().time() > self._deadline
        return late or (self._channel is not None and self._channel.after(self._position) is None)


async def watch(
    cache: Cache,
    resource: Resource,
    interest: Interest = Interest(),  # noqa: B008 - a NamedTuple
    *,
    since: int | None,
    bookmarks: bool = False,
    send_initial_events: bool = False,
    timeout: float = 1800.0,
    encode: Encode | None = None,
    encode_bookmark: EncodeBookmark | None = None,
    bookmark_interval: float = BOOKMARK_SECONDS,
    progress: Progress | None = None,
) -> AsyncGenerator[bytes, None]:
    """Chunks of whole lines until `timeout` seconds are over, the watcher is overrun, or the resource is gone.

    `since` None starts with an ADDED event for every current object; a revision starts behind it. `send_initial_events` (which goes with
    None) marks the end of the initial events by a bookmark with the annotation k8s.io/initial-events-end. Raises nothing of its own: an
    error after the start of a watch is an ERROR event, as upstream has it."""
    source = cache.of(resource)
    channel = source.ring.open(interest.node)
    sleeper = Sleeper(channel)
    watcher = _Watcher(cache, source, interest, encode, encode_bookmark or default_bookmark(resource), progress or Progress())
    try:
        async with aclosing(watcher.run(channel, sleeper, since, bookmarks, send_initial_events, timeout, bookmark_interval)) as chunks:
            async for chunk in chunks:
                yield chunk
    except Compacted as error:
        yield error_line(Expired(f"too old resource version: {error.revision} ({error.floor})"))
    finally:
        sleeper.close()
        source.ring.close(interest.node, channel)


class _Watcher:
    """One watch's way of telling events."""

    def __init__(
        self,
        cache: Cache,
        source: ResourceCache,
        interest: Interest,
        encode: Encode | None,
        encode_bookmark: EncodeBookmark,
        progress: Progress,
    ) -> None:
        self._progress = progress
        self._cache, self._source, self._interest = cache, source, interest
        self._encode, self._encode_bookmark = encode, encode_bookmark

    async def run(
        self,
        channel: Channel,
        sleeper: Sleeper,
        since: int | None,
        bookmarks: bool,
        mark_initial: bool,
        timeout: float,
        bookmark_interval: float,
    ) -> AsyncGenerator[bytes, None]:
        store = self._cache.store
        if since is not None and since < store.floor:
            raise Compacted(since, store.floor)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        self._progress.until(deadline)
        seen = self._cache.revision if since is None else since
        if since is None:
            # What is current is fixed here, before anything is awaited; the ring or the log tells what comes after.
            for chunk in _join(self._initial(select(candidates(self._source, self._interest), self._interest))):
                yield chunk
            if mark_initial:
                yield self._encode_bookmark(seen, True)
        while (position := channel.position(seen)) is None:
            until = self._cache.revision
            async with aclosing(self._replay(seen, until)) as chunks:
                async for chunk in chunks:
                    yield chunk
            seen = until
        next_bookmark = loop.time() + _about(bookmark_interval)
        while not channel.ended:
            events = channel.after(position)
            if events is None:
                return
            if events:
                # Told are those of this moment; while the client takes them, more may come, and are the next turn's.
                position += len(events)
                self._progress.told(channel, position)
                for chunk in self._told(channel, position - len(events), events, seen):
                    yield chunk
                continue
            now = loop.time()
            if now >= deadline or now >= next_bookmark:
                if bookmarks:
                    yield self._encode_bookmark(max(self._cache.revision, seen), False)
                if now >= deadline:
                    return
                next_bookmark = now + _about(bookmark_interval)
                continue
            await sleeper.sleep(min(deadline, next_bookmark) if bookmarks else deadline)

    def _told(self, channel: Channel, position: int, events: Sequence[Event], seen: int) -> Iterable[bytes]:
        """The chunks of these events. Watchers who are woken together and want to hear the same are told the same chunks."""
        if self._encode is not None or not channel.in_round or events[0].revision <= seen:
            return _join(line for event in events if event.revision > seen and (line := self._line(event)) is not None)
        key = (self._interest, position, len(events))
        found = channel.told.get(key)
        if found is None:
            found = channel.told[key] = list(_join(line for event in events if (line := self._line(event)) is not None))
        return found

    def _initial(self, entries: Iterable[Entry]) -> Iterable[bytes]:
        encode = self._encode
        return (frame(ADDED, entry.value) if encode is None else encode(ADDED, entry) for entry in entries)

    def _line(self, event: Event) -> bytes | None:
        """What this watcher is told of an event, if anything."""
        interest = self._interest
        if not interest.place(event.entry):
            return None
        type_ = event.type
        if interest.selects:
            after = type_ != DELETED and interest.content(event.entry)
            before = event.previous is not None and interest.content(event.previous)
            if not (after or before):
                return None
            type_ = DELETED if not after else MODIFIED if before else ADDED
        entry = event.departed if type_ == DELETED else event.entry
        return frame(type_, entry.value) if self._encode is None else self._encode(type_, entry)

    async def _replay(self, since: int, until: int) -> AsyncGenerator[bytes, None]:
        """What the log has between two revisions. The state of an object before its first change there is the one at `since`."""
        interest, shape, store = self._interest, self._source.shape, self._cache.store
        prefix = shape.prefix
        if interest.namespace is not None and shape.resource.ref.namespaced:
            prefix += interest.namespace + "/"
        known: dict[str, Entry | None] = {}
        async for records in store.since(prefix, since, until):
            lines: list[bytes] = []
            for record in records:
                entry = shape.entry(record)
                if not interest.place(entry):
                    continue
                if record.key in known:
                    previous = known[record.key]
                elif record.create_revision > since:
                    previous = None
                elif interest.selects and not record.deleted:
                    before = await store.get(record.key, since)
                    previous = shape.entry(before) if before is not None else None
                else:
                    previous = entry
                known[record.key] = None if record.deleted else entry
                if record.deleted and previous is None:
                    continue
                type_ = DELETED if record.deleted else ADDED if previous is None else MODIFIED
                line = self._line(Event(type_, entry, previous))
                if line is not None:
                    lines.append(line)
            for chunk in _join(lines):
                yield chunk


def _join(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Lines in chunks of about CHUNK bytes."""
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if size >= CHUNK:
            yield b"".join(chunk)
            chunk, size = [], 0
    if chunk:
        yield b"".join(chunk)


def _about(seconds: float) -> float:
    """A tenth sooner or later, so that watchers which started together do not wake together."""
    return seconds * random.uniform(0.9, 1.1)


def default_bookmark(resource: Resource) -> EncodeBookmark:
    """Bookmarks in a resource's stored version."""
    api_version, kind = resource.ref.api_version, resource.ref.kind

    def encode(revision: int, initial_end: bool) -> bytes:
        return bookmark_line(api_version, kind, revision, initial_end)

    return encode


def bookmark_line(api_version: str, kind: str, revision: int, initial_end: bool) -> bytes:
    """The line of a bookmark."""
    return frame(BOOKMARK, bookmark(api_version, kind, revision, initial_end))


def bookmark(api_version: str, kind: str, revision: int, initial_end: bool) -> bytes:
    """A bookmark's object: a revision, and whether it is the end of what there was when the watch began."""
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if initial_end:
        metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
    return orjson.dumps({"kind": kind, "apiVersion": api_version, "metadata": metadata})


def error_line(error: StatusError) -> bytes:
    """The line of an error, which is the last one."""
    return frame(ERROR, orjson.dumps(error.status()))
