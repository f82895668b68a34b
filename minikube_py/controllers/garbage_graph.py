"""The graph of owners and dependents that the garbage collector decides on, and the decisions.

Pure: objects go in as they are heard of, a decision about one object comes out. What always holds: an edge is an owner's uid, so an owner
need not be known; an owner counts as gone only once the server itself has said so (`absent`), never because an informer is behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from minikube_py.types.meta import Object, OwnerReference, ResourceRef

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


class Item(msgspec.Struct, frozen=True, gc=False):
    """One object as the collector knows it."""

    ref: ResourceRef
    namespace: str
    name: str
    uid: str
    owners: tuple[OwnerReference, ...] = ()
    ending: bool = False
    finalizers: tuple[str, ...] = ()


def item_of(ref: ResourceRef, obj: Object) -> Item:
    """The little that is kept of an object."""
    meta = obj.metadata
    finalizers = tuple(f for f in meta.finalizers if f in (FOREGROUND, ORPHAN))
    return Item(ref, meta.namespace, meta.name, meta.uid, meta.ownerReferences, meta.deletionTimestamp is not None, finalizers)


class Action(NamedTuple):
    """What to do about an item: `delete` with a propagation policy, drop the owners named by uid, or take off a finalizer."""

    delete: str = ""
    drop_owners: frozenset[str] = frozenset()
    unblock: frozenset[str] = frozenset()
    """Owners by uid whose deletion this item must no longer hold up."""
    remove_finalizer: str = ""
    orphan: tuple[Item, ...] = ()
    """Dependents that lose this owner first."""
    push: tuple[Item, ...] = ()
    """Dependents to be looked at: this item waits for them."""


NOTHING = Action()


class Graph:
    """Items by uid, and dependents by owner uid."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._dependents: dict[str, set[str]] = {}
        self._absent: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, uid: str) -> Item | None:
        """An item, if it is known."""
        return self._items.get(uid)

    def dependents(self, uid: str) -> Iterator[Item]:
        """The items that name this owner."""
        return (self._items[d] for d in tuple(self._dependents.get(uid, ())))

    def is_absent(self, uid: str) -> bool:
        """Whether the server has said that there is no such object."""
        return uid in self._absent

    def put(self, item: Item) -> Iterable[str]:
        """An object came or changed; gives the uids to look at."""
        old = self._items.get(item.uid)
        self._absent.pop(item.uid, None)
        self._items[item.uid] = item
        before = {ref.uid for ref in old.owners} if old is not None else set()
        after = {ref.uid for ref in item.owners}
        for uid in before - after:
            self._unlink(uid, item.uid)
        for uid in after - before:
            self._dependents.setdefault(uid, set()).add(item.uid)
        if item.owners or (item.ending and item.finalizers):
            yield item.uid
        # an owner that is ending in the foreground may have waited for just this
        yield from (uid for uid in before - after if self._waits(uid))
        if old is not None and item.ending and not old.ending:
            yield from (uid for uid in after if self._waits(uid))

    def remove(self, uid: str) -> Iterable[str]:
        """An object is gone; gives the uids to look at."""
        item = self._items.pop(uid, None)
        self.mark_absent(uid)
        if item is not None:
            for ref in item.owners:
                self._unlink(ref.uid, uid)
                if self._waits(ref.uid):
                    yield ref.uid
        yield from tuple(self._dependents.get(uid, ()))

    def mark_absent(self, uid: str) -> None:
        """The server says that there is no object of this uid."""
        self._absent[uid] = None
        if len(self._absent) > 5000:
            del self._absent[next(iter(self._absent))]

    def _waits(self, uid: str) -> bool:
        item = self._items.get(uid)
        return item is not None and item.ending and FOREGROUND in item.finalizers

    def _unlink(self, owner: str, uid: str) -> None:
        dependents = self._dependents.get(owner)
        if dependents is not None:
            dependents.discard(uid)
            if not dependents:
                del self._dependents[owner]

    def unknown_owners(self, item: Item) -> list[OwnerReference]:
        """Owners of which nothing is known: the server has to be asked before `decide`."""
        return [ref for ref in item.owners if ref.uid not in self._items and ref.uid not in self._absent]

    def decide(self, item: Item, same_scope: Callable[[Item, Item], bool]) -> Action:
        """What to do about an item none of whose owners is unknown. `same_scope(owner, item)`: whether the owner may own the item."""
        if item.ending:
            return self._ending(item)
        if not item.owners:
            return NOTHING
        solid, gone, waiting = [], [], []
        for ref in item.owners:
            owner = self._items.get(ref.uid)
            if owner is None or not same_scope(owner, item):
                gone.append(ref)
            elif owner.ending and FOREGROUND in owner.finalizers:
                waiting.append(ref)
            else:
                solid.append(ref)
        if solid:
            return Action(drop_owners=frozenset(ref.uid for ref in (*gone, *waiting)))
        dependents = list(self.dependents(item.uid))
        if waiting and dependents:
            # a dependent that is itself ending in the foreground would wait for this one, and this one for it: cut the circle
            circle = any(d.ending and FOREGROUND in d.finalizers for d in dependents)
            unblock = frozenset(ref.uid for ref in item.owners) if circle else frozenset()
            return Action(delete="Foreground", unblock=unblock)
        policy = "Orphan" if ORPHAN in item.finalizers else "Foreground" if FOREGROUND in item.finalizers else "Background"
        return Action(delete=policy)

    def _ending(self, item: Item) -> Action:
        if ORPHAN in item.finalizers:
            return Action(orphan=tuple(self.dependents(item.uid)), remove_finalizer=ORPHAN)
        if FOREGROUND in item.finalizers:
            blocking = [d for d in self.dependents(item.uid) if _blocks(d, item.uid)]
            if not blocking:
                return Action(remove_finalizer=FOREGROUND)
            return Action(push=tuple(d for d in self.dependents(item.uid) if not d.ending or FOREGROUND in d.finalizers))
        return NOTHING


def _blocks(dependent: Item, owner: str) -> bool:
    return any(ref.uid == owner and ref.blockOwnerDeletion for ref in dependent.owners)


def owner_in_scope(owner: Item, item: Item) -> bool:
    """Objects are owned by cluster-scoped objects or by objects of their own namespace."""
    return not owner.namespace or owner.namespace == item.namespace
