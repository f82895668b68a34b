"""An informer: the views of one kind, kept current by list and watch, with indexes and change listeners.

What always holds: a view is replaced, never changed; listeners are called in revision order, after the view is in place; `synced` is set
once the first whole list is in, and a later relist tells listeners of what went away meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, cast

from minikube_py.aio import Backoff, Tasks, Turns
from minikube_py.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.meta.errors import Expired, Gone, StatusError
from minikube_py.types.meta import ResourceRef, V

log = logging.getLogger(__name__)

_SLICE = 0.004
"""Seconds for which an informer takes in changes that have come together, before others have their turn."""

Listener = Callable[[V | None, V | None], None]
Index = Callable[[V], Iterable[str]]


class Informer(Generic[V]):
    """The current views of one kind. `listener(old, new)` hears of every change: old is None for a new object, new for a deleted one."""

    def __init__(
        self,
        client: Client,
        view: type[V],
        *,
        namespace: str | None = None,
        field_selector: str = "",
        label_selector: str = "",
        resource: ResourceRef | None = None,
    ) -> None:
        self.view = view
        self._resource = resource or view.resource
        self._client, self._namespace, self._fields, self._labels = client, namespace, field_selector, label_selector
        self._objects: dict[str, V] = {}
        self._by_namespace: dict[str, dict[str, V]] = {}
        self._indexes: dict[str, tuple[Index[V], dict[str, dict[str, V]]]] = {}
        self._listeners: Sequence[Listener[V]] = ()
        self._revision = ""
        self.synced = asyncio.Event()

    # Reading

    def get(self, key: str) -> V | None:
        """The view of namespace/name (or of a cluster-scoped name)."""
        return self._objects.get(key)

    def list(self, namespace: str | None = None) -> Sequence[V]:
        """All views, or those of one namespace."""
        return tuple(self._objects.values() if namespace is None else self._by_namespace.get(namespace, {}).values())

    def by_index(self, name: str, value: str) -> Sequence[V]:
        """The views that index `name` files under `value`."""
        return tuple(self.filed(name, value).values())

    def filed(self, name: str, value: str) -> Mapping[str, V]:
        """The same by key, as they are now and will be: not to be kept, nor to be changed."""
        return self._indexes[name][1].get(value, {})

    def views(self, namespace: str | None = None) -> Mapping[str, V]:
        """All views, or those of one namespace, by key: not to be kept, nor to be changed."""
        return self._objects if namespace is None else self._by_namespace.get(namespace, {})

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def revision(self) -> int:
        """The revision that the views have reached: a write at or below it is in them. 0 before the first list, or a new one."""
        return int(self._revision or 0)

    # Setting up

    def add_index(self, name: str, index: Index[V]) -> None:
        """File every view under the values that `index` gives for it. Adding the same name again changes nothing."""
        if name in self._indexes:
            return
        self._indexes[name] = (index, {})
        for key, obj in self._objects.items():
            self._file(name, key, obj)

    def listen(self, listener: Listener[V]) -> None:
        """Hear of every change from now on; what is there already is told at once."""
        self._listeners = (*self._listeners, listener)
        for obj in tuple(self._objects.values()):
            listener(None, obj)

    # Following

    async def run(self) -> None:
        """Follow the API until cancelled."""
        backoff = Backoff(first=0.1, limit=5.0)
        while True:
            try:
                if not self._revision:
                    await self._relist()
                    backoff.reset()
                await self._follow(backoff)
                continue
            except (Expired, Gone):
                self._revision = ""
            except (StatusError, TransportError) as error:
                log.warning("watch failed, trying again", extra={"kind": self._resource.kind, "error": str(error)})
            await asyncio.sleep(backoff.next())

    async def _relist(self) -> None:
        result = await self._client.list(
            self.view, self._namespace, label_selector=self._labels, field_selector=self._fields, resource=self._resource
        )
        # before listeners hear of any of it: what they hear is not older than what this process has written itself
        self._revision = result.resource_version
        seen = {obj.key for obj in result.items}
        for key in [k for k in self._objects if k not in seen]:
            self._apply(key, None)
        for obj in result.items:
            old = self._objects.get(obj.key)
            if old is None or old.metadata.resourceVersion != obj.metadata.resourceVersion:
                self._apply(obj.key, obj)
        self.synced.set()

    async def _follow(self, backoff: Backoff) -> None:
        events = self._client.watch(
            self.view,
            self._namespace,
            resource_version=self._revision,
            label_selector=self._labels,
            field_selector=self._fields,
            resource=self._resource,
        )
        until = 0.0
        async for event in events:
            if time.perf_counter() > until:
                await asyncio.sleep(0)
                until = time.perf_counter() + _SLICE
            backoff.reset()
            self._revision = event.object.metadata.resourceVersion
            if event.type in ("ADDED", "MODIFIED"):
                self._apply(event.object.key, event.object)
            elif event.type == "DELETED":
                self._apply(event.object.key, None)

    def _apply(self, key: str, new: V | None) -> None:
        old = self._objects.get(key)
        for name in self._indexes:
            if old is not None:
                self._unfile(name, key, old)
        if new is None:
            if old is None:
                return
            del self._objects[key]
            neighbours = self._by_namespace[old.metadata.namespace]
            neighbours.pop(key, None)
            if not neighbours:
                del self._by_namespace[old.metadata.namespace]
        else:
            self._objects[key] = new
            self._by_namespace.setdefault(new.metadata.namespace, {})[key] = new
            for name in self._indexes:
                self._file(name, key, new)
        for listener in self._listeners:
            try:
                listener(old, new)
            except Exception:
                log.exception("listener failed", extra={"kind": self._resource.kind, "key": key})

    def _file(self, name: str, key: str, obj: V) -> None:
        index, filed = self._indexes[name]
        for value in index(obj):
            filed.setdefault(value, {})[key] = obj

    def _unfile(self, name: str, key: str, obj: V) -> None:
        index, filed = self._indexes[name]
        for value in index(obj):
            entry = filed.get(value)
            if entry is not None:
                entry.pop(key, None)
                if not entry:
                    del filed[value]


class Informers:
    """The informers that the controllers of one process share: one a kind, started at first use."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.turns = Turns()
        """For those who follow them: a change wakes many at the same time."""
        self._informers: dict[tuple[ResourceRef, str], Informer[Any]] = {}
        self._tasks = Tasks()

    def of(self, view: type[V], *, field_selector: str = "", resource: ResourceRef | None = None) -> Informer[V]:
        """The shared informer of a kind."""
        ref = resource or view.resource
        informer = self._informers.get((ref, field_selector))
        if informer is None:
            informer = self._informers[ref, field_selector] = Informer(self._client, view, field_selector=field_selector, resource=ref)
            self._tasks.spawn(informer.run(), f"informer {ref.plural}")
        if informer.view is not view:
            raise TypeError(f"{ref.plural} is already followed as {informer.view.__name__}")
        return cast("Informer[V]", informer)

    @property
    def all(self) -> Mapping[tuple[ResourceRef, str], Informer[Any]]:
        """Every informer that was asked for."""
        return self._informers

    async def close(self) -> None:
        """Stop following."""
        await self._tasks.close()
