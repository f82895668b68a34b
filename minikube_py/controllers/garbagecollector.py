"""Garbage collection by owner references: background, foreground and orphaning deletion, over every kind that the server has.

Watches on all kinds (metadata alone is kept) feed the graph; what the graph decides is applied here. Kinds come from discovery, looked up
again at times, so that custom resources are followed too. Nothing is deleted before every kind has been listed once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from minikube_py.aio import Backoff, Health, Tasks, cancel
from minikube_py.client import Patch
from minikube_py.client.transport import TransportError
from minikube_py.control import Informer, WorkQueue
from minikube_py.controllers.base import Context, Controller
from minikube_py.controllers.discovery import discover
from minikube_py.controllers.garbage_graph import Action, Graph, Item, item_of
from minikube_py.meta.errors import Conflict, NotFound, StatusError
from minikube_py.types.meta import Object, OwnerReference, PartialObject, ResourceRef

log = logging.getLogger(__name__)

_IGNORED = frozenset({("", "events"), ("events.k8s.io", "events")})
_NEEDED = frozenset({"list", "watch", "delete"})


class GarbageCollector(Controller):
    """Deletes what has lost its owners."""

    name = "garbage-collector"
    identity = "generic-garbage-collector"
    component = "garbage-collector-controller"
    workers = 20

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._reset()

    def _reset(self) -> None:
        self._graph = Graph()
        self._queue = WorkQueue()
        self._followed: dict[ResourceRef, Informer[Any]] = {}
        self._following: dict[ResourceRef, asyncio.Task[None]] = {}
        self._by_kind: Mapping[tuple[str, str], ResourceRef] = {}
        self._run = object()

    async def run(self, health: Health) -> None:
        self._reset()
        watches = Tasks()
        workers: list[asyncio.Task[None]] = []
        try:
            await self._follow(watches)
            for informer in self._followed.values():
                await informer.synced.wait()
            health.well()
            workers = [asyncio.create_task(self._work(), name=f"{self.name} worker {i}") for i in range(self.workers)]
            refresher = asyncio.create_task(self._refresh(watches), name=f"{self.name} discovery")
            workers.append(refresher)
            workers.append(asyncio.create_task(self.events.run(), name=f"{self.name} events"))
            await asyncio.gather(*workers)
        finally:
            self._run = object()
            await cancel(*workers)
            self._queue.close()
            await watches.close()

    # Following

    async def _refresh(self, watches: Tasks) -> None:
        while True:
            await asyncio.sleep(self.options.discovery_period)
            try:
                await self._follow(watches)
            except (StatusError, TransportError) as error:
                log.warning("discovery failed, trying again", extra={"controller": self.name, "error": str(error)})

    async def _follow(self, watches: Tasks) -> None:
        """Follow every kind that is served, and no other."""
        backoff = Backoff()
        while True:
            try:
                served = await discover(self.client)
                break
            except (StatusError, TransportError):
                if self._followed:
                    raise
                await asyncio.sleep(backoff.next())
        wanted = {s.ref for s in served if s.verbs >= _NEEDED and (s.ref.group, s.ref.plural) not in _IGNORED}
        self._by_kind = {(s.ref.group, s.ref.kind): s.ref for s in served}
        for ref in [r for r in self._followed if r not in wanted]:
            informer = self._followed.pop(ref)
            task = self._following.pop(ref, None)
            if task is not None:
                await cancel(task)
            for obj in informer.list():
                self._enqueue(self._graph.remove(obj.metadata.uid))
        for ref in wanted - self._followed.keys():
            self._start(ref, watches)

    def _start(self, ref: ResourceRef, watches: Tasks) -> None:
        shared = self.informers.all.get((ref, ""))
        informer: Informer[Any]
        if shared is not None:
            informer = shared
        else:
            informer = Informer(self.client, PartialObject, resource=ref)
            self._following[ref] = watches.spawn(informer.run(), f"garbage collector informer {ref.plural}")
        self._followed[ref] = informer
        run = self._run

        def listener(old: Object | None, new: Object | None) -> None:
            if self._run is run and self._followed.get(ref) is informer:
                self._on_change(ref, old, new)

        informer.listen(listener)

    def _on_change(self, ref: ResourceRef, old: Object | None, new: Object | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._enqueue(self._graph.remove(old.metadata.uid))
        if new is not None:
            item = item_of(ref, new)
            if self._graph.get(item.uid) != item:
                self._enqueue(self._graph.put(item))

    def _enqueue(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self._queue.add(uid)

    # Working

    async def _work(self) -> None:
        while True:
            uid = await self._queue.get()
            try:
                await self.reconcile(uid)
            except (StatusError, TransportError) as error:
                if not isinstance(error, Conflict):
                    log.warning("collecting failed", extra={"controller": self.name, "uid": uid, "error": str(error)})
                self._queue.retry(uid)
            except Exception:
                log.exception("collecting failed", extra={"controller": self.name, "uid": uid})
                self._queue.retry(uid)
            else:
                self._queue.forget(uid)
            finally:
                self._queue.done(uid)

    async def reconcile(self, key: str) -> float | None:
        item = self._graph.get(key)
        if item is None:
            return None
        for ref in self._graph.misplaced(item):
            self._tell_of(item, ref)
        for ref in () if item.ending else self._graph.unknown_owners(item):
            if not await self._ask(item, ref):
                return None
        item = self._graph.get(key)
        if item is None:
            return None
        await self._apply(item, self._graph.decide(item))
        return None

    def _tell_of(self, item: Item, owner: OwnerReference) -> None:
        about = {"kind": item.ref.kind, "apiVersion": item.ref.api_version, "namespace": item.namespace, "name": item.name, "uid": item.uid}
        named = f"[{owner.apiVersion}/{owner.kind}, namespace: {item.namespace}, name: {owner.name}, uid: {owner.uid}]"
        message = f'ownerRef {named} does not exist in namespace "{item.namespace}"'
        self.events.say(about, "Warning", "OwnerRefInvalidNamespace", message)

    async def _ask(self, item: Item, owner: OwnerReference) -> bool:
        """Find out about an owner that no watch has shown; False where it cannot be told, since an object without a namespace has none that
        is in one."""
        group, _, _ = owner.apiVersion.rpartition("/")
        ref = self._by_kind.get((group, owner.kind))
        if ref is None:
            # not a kind of this server (now): whether the owner exists cannot be told, so the item stays
            raise NotFound(f"no matches for kind {owner.kind!r} in version {owner.apiVersion!r}")
        if ref.namespaced and not item.namespace:
            return False
        namespace = item.namespace if ref.namespaced else ""
        try:
            found = await self.client.get(PartialObject, owner.name, namespace or None, resource=ref)
        except NotFound:
            self._graph.mark_absent(owner, namespace)
            return True
        if found.metadata.uid != owner.uid:
            self._graph.mark_absent(owner, namespace)
        elif ref in self._followed:
            raise Conflict(f"{owner.kind} {owner.name} has not been heard of yet")
        else:
            self._enqueue(self._graph.put(item_of(ref, found)))
        return True

    async def _apply(self, item: Item, action: Action) -> None:
        for dependent in action.orphan:
            await self._drop_owners(dependent, frozenset({item.uid}))
        if action.drop_owners:
            await self._drop_owners(item, action.drop_owners)
        if action.unblock:
            await self._unblock(item, action.unblock)
        if action.remove_finalizer:
            await self._remove_finalizer(item, action.remove_finalizer)
        if action.delete:
            await self._delete(item, action.delete)
        self._enqueue(d.uid for d in action.push)

    async def _delete(self, item: Item, policy: str) -> None:
        """Delete, if the live object still has no owner that the graph does not know as gone or going."""
        live = await self._live(item)
        if live is None:
            return
        if {ref.uid for ref in live.metadata.ownerReferences} != {ref.uid for ref in item.owners}:
            raise Conflict(f"{item.ref.kind} {item.name} has other owners now")
        try:
            await self.client.delete(
                PartialObject,
                item.name,
                item.namespace or None,
                propagation=policy,
                uid=item.uid,
                resource_version=live.metadata.resourceVersion,
                resource=item.ref,
            )
        except NotFound:
            return

    async def _live(self, item: Item) -> PartialObject | None:
        try:
            live = await self.client.get(PartialObject, item.name, item.namespace or None, resource=item.ref)
        except NotFound:
            live = None
        if live is None or live.metadata.uid != item.uid:
            # the informer will say so too; what asked for it need not wait for that
            return None
        return live

    async def _drop_owners(self, item: Item, owners: frozenset[str]) -> None:
        live = await self._live(item)
        if live is None or not any(ref.uid in owners for ref in live.metadata.ownerReferences):
            return
        kept = [_reference_json(ref) for ref in live.metadata.ownerReferences if ref.uid not in owners]
        await self._patch(item, live, {"ownerReferences": kept or None})

    async def _unblock(self, item: Item, owners: frozenset[str]) -> None:
        live = await self._live(item)
        if live is None:
            return
        references = [
            {**_reference_json(ref), "blockOwnerDeletion": ref.blockOwnerDeletion and ref.uid not in owners}
            for ref in live.metadata.ownerReferences
        ]
        await self._patch(item, live, {"ownerReferences": references})

    async def _remove_finalizer(self, item: Item, finalizer: str) -> None:
        live = await self._live(item)
        if live is None or finalizer not in live.metadata.finalizers:
            return
        kept = [f for f in live.metadata.finalizers if f != finalizer]
        await self._patch(item, live, {"finalizers": kept or None})

    async def _patch(self, item: Item, live: PartialObject, metadata: dict[str, Any]) -> None:
        body = {"metadata": {**metadata, "uid": item.uid, "resourceVersion": live.metadata.resourceVersion}}
        try:
            await self.client.patch(PartialObject, item.name, body, item.namespace or None, kind=Patch.MERGE, resource=item.ref)
        except NotFound:
            return


def _reference_json(ref: OwnerReference) -> dict[str, Any]:
    body: dict[str, Any] = {"apiVersion": ref.apiVersion, "kind": ref.kind, "name": ref.name, "uid": ref.uid}
    if ref.controller:
        body["controller"] = True
    if ref.blockOwnerDeletion:
        body["blockOwnerDeletion"] = True
    return body
