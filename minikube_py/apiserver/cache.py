"""The cache: the current objects of every resource as bytes, and their recent events. All reads of the API server come from here.

What flows through: records from the store's commits, in order, before their writers are acknowledged, so that everyone reads his own
writes. What always holds: within one turn of the loop the cache is exactly the state at `revision`; entries are replaced, never changed;
memory is the objects' bytes plus a known overhead (scripts/bench measures it), plus the bounded rings.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence

from minikube_py.apiserver.entries import ADDED, DELETED, MODIFIED, Entry, Event, Shape
from minikube_py.apiserver.ring import Bounds, Ring
from minikube_py.resources.api import Resource
from minikube_py.store.api import Record, Store
from minikube_py.types.meta import ResourceRef

__all__ = ["Bounds", "Cache", "Entry", "Event", "ResourceCache"]


class ResourceCache:
    """The objects of one resource. `revision` is that of its last change (or of the load), for those who compute something from all."""

    def __init__(self, resource: Resource, records: list[Record], revision: int, bounds: Bounds) -> None:
        """`records` is used up: each is let go once its entry is made, so that a large resource is not in memory twice."""
        self.resource = resource
        self.shape = Shape(resource)
        self._entries: dict[str, Entry] = {}
        records.reverse()
        while records:
            record = records.pop()
            self._entries[record.key] = self.shape.entry(record)
        self._keys = sorted(self._entries)
        self._listings: dict[str, Sequence[Entry]] = {}
        self._nodes: dict[str, dict[str, Entry]] = {}
        self.revision = max((entry.revision for entry in self._entries.values()), default=0)
        self.ring = Ring(revision, self.shape.by_node, bounds)
        for entry in self._entries.values():
            if entry.node:
                self._nodes.setdefault(entry.node, {})[entry.key] = entry

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, namespace: str, name: str) -> Entry | None:
        """One object."""
        return self._entries.get(self.resource.key(namespace, name))

    def by_key(self, key: str) -> Entry | None:
        """One object by its key in the log."""
        return self._entries.get(key)

    def entries(self, namespace: str | None = None, *, node: str | None = None) -> Sequence[Entry]:
        """All objects, those of a namespace, or those bound to a node, in key order. Not to be changed."""
        if node is not None and self.shape.by_node:
            bound = self._nodes.get(node, {})
            chosen = (bound[key] for key in sorted(bound))
            return [entry for entry in chosen if namespace is None or entry.namespace == namespace]
        scope = namespace or ""
        listing = self._listings.get(scope)
        if listing is None:
            keys = self._keys
            if scope and self.resource.ref.namespaced:
                prefix = f"{self.shape.prefix}{scope}"
                keys = keys[bisect_left(keys, prefix + "/") : bisect_left(keys, prefix + "0")]
            if not keys:
                return []  # not kept: namespaces come and go, and most have nothing of most kinds
            listing = self._listings[scope] = [self._entries[key] for key in keys]
        return listing

    def apply(self, records: Sequence[Record]) -> None:
        """Take the records of one commit and wake the watchers."""
        events = [self._change(record) for record in records]
        self._listings.clear()
        self.revision = records[-1].revision
        self.ring.add(events)

    def _change(self, record: Record) -> Event:
        key = record.key
        entry = self.shape.entry(record)
        if record.deleted:
            previous = self._entries.pop(key, None)
            if previous is not None:
                del self._keys[bisect_left(self._keys, key)]
            event = Event(DELETED, entry, previous or entry)
        else:
            previous = self._entries.get(key)
            if previous is None:
                insort(self._keys, key)
            self._entries[key] = entry
            event = Event(ADDED if previous is None else MODIFIED, entry, previous)
        if self.shape.by_node:
            self._move(previous, None if record.deleted else entry)
        return event

    def _move(self, previous: Entry | None, entry: Entry | None) -> None:
        if previous is not None and previous.node and (entry is None or entry.node != previous.node):
            bound = self._nodes[previous.node]
            del bound[previous.key]
            if not bound:
                del self._nodes[previous.node]
        if entry is not None and entry.node:
            self._nodes.setdefault(entry.node, {})[entry.key] = entry


class Cache:
    """The caches of all resources of one store."""

    def __init__(self, store: Store, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - a NamedTuple
        self.store = store
        self._bounds = bounds
        self._revision = store.revision
        self._by_prefix: dict[str, ResourceCache] = {}
        self._by_ref: dict[ResourceRef, ResourceCache] = {}
        self._loading: dict[str, list[Record]] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        store.on_commit(self._committed)

    @classmethod
    async def load(cls, store: Store, resources: Iterable[Resource], bounds: Bounds = Bounds()) -> Cache:  # noqa: B008 - a NamedTuple
        """The cache of these resources, following the store from now on. Raises what reading the store raises."""
        cache = cls(store, bounds)
        for resource in resources:
            await cache.add(resource)
        return cache

    @property
    def revision(self) -> int:
        """The revision that the cache shows: everything at or below it is in, nothing above."""
        return self._revision

    @property
    def resources(self) -> Mapping[ResourceRef, ResourceCache]:
        """All caches by hub."""
        return self._by_ref

    def of(self, resource: Resource | ResourceRef) -> ResourceCache:
        """The cache of a resource, by itself or its hub. Raises KeyError."""
        return self._by_ref[resource if isinstance(resource, ResourceRef) else resource.ref]

    async def add(self, resource: Resource) -> ResourceCache:
        """Load a resource and follow it; what is committed meanwhile is not missed."""
        if resource.ref in self._by_ref:
            return self._by_ref[resource.ref]
        prefix = resource.prefix
        meanwhile = self._loading.setdefault(prefix, [])
        try:
            page = await self.store.range(prefix)
            records, revision = list(page.records), page.revision
            del page
            cache = ResourceCache(resource, records, revision, self._bounds)
            newer = [record for record in meanwhile if record.revision > revision]
            if newer:
                cache.apply(newer)
        finally:
            self._loading.pop(prefix, None)
        self._by_prefix[prefix] = self._by_ref[resource.ref] = cache
        return cache

    def remove(self, resource: Resource) -> None:
        """Forget a resource; its watchers are woken and end."""
        cache = self._by_ref.pop(resource.ref)
        del self._by_prefix[resource.prefix]
        cache.ring.end()

    async def wait_for(self, revision: int) -> None:
        """Return once the cache shows a revision; at once if it does. The caller limits the time."""
        if revision <= self._revision:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (revision, waiter)
        self._waiting.append(entry)
        try:
            await waiter
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    def _committed(self, records: Sequence[Record]) -> None:
        groups: dict[str, list[Record]] = {}
        for record in records:
            key = record.key
            end = key.find("/", key.find("/", key.find("/", 1) + 1) + 1) + 1
            groups.setdefault(key[:end], []).append(record)
        self._revision = records[-1].revision
        for prefix, group in groups.items():
            cache = self._by_prefix.get(prefix)
            if cache is not None:
                cache.apply(group)
            elif prefix in self._loading:
                self._loading[prefix] += group
        if self._waiting:
            self._arrived()

    def _arrived(self) -> None:
        waiting, self._waiting = self._waiting, []
        for revision, waiter in waiting:
            if revision > self._revision:
                self._waiting.append((revision, waiter))
            elif not waiter.done():
                waiter.set_result(None)
