"""The graph of owners and dependents that the garbage collector decides on, and the decisions.

Pure: objects go in as they are heard of, a decision about one object comes out. What always holds: an edge is an owner's uid, so an owner
need not be known; an owner counts as gone only once the server itself has said so (`absent`), never because an informer is behind. An owner
is what its uid, kind and name say together, in the dependent's own namespace or in none: a reference that does not name it right means
another object, for which the server is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

_Named = tuple[str, str, str, str, str]
"""An owner as a reference means it: its uid, group, kind, name and namespace ("" for one that is in none)."""


class Graph:
    """Items by uid, and dependents by owner uid."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._dependents: dict[str, set[str]] = {}
        self._absent: dict[_Named, None] = {}

    def __len__(self) -> int:
        return len(self._items)

    def get(self, uid: str) -> Item | None:
        """An item, if it is known."""
        return self._items.get(uid)

    def dependents(self, uid: str) -> Iterator[Item]:
        """The items that name this owner."""
        return (self._items[d] for d in tuple(self._dependents.get(uid, ())))

    def owner(self, ref: OwnerReference, item: Item) -> Item | None:
        """The owner that an item's reference means, if it is known."""
        found = self._items.get(ref.uid)
        if found is None or (found.ref.group, found.ref.kind, found.name) != (_group(ref), ref.kind, ref.name):
            return None
        return found if found.namespace in ("", item.namespace) else None

    def misplaced(self, item: Item) -> list[OwnerReference]:
        """References to objects of another namespace, which cannot own the item."""
        known = ((ref, self._items.get(ref.uid)) for ref in item.owners)
        return [ref for ref, found in known if found is not None and found.namespace not in ("", item.namespace)]

    def put(self, item: Item) -> Iterable[str]:
        """An object came or changed; gives the uids to look at."""
        old = self._items.get(item.uid)
        self._absent.pop(_identity(item), None)
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
        if item is not None:
            self._note_absent(_identity(item))
            for ref in item.owners:
                self._unlink(ref.uid, uid)
                if self._waits(ref.uid):
                    yield ref.uid
        yield from tuple(self._dependents.get(uid, ()))

    def mark_absent(self, ref: OwnerReference, namespace: str) -> None:
        """The server says that there is no such object as a reference names, in a namespace or outside of all ("")."""
        self._note_absent(_named(ref, namespace))

    def _note_absent(self, absent: _Named) -> None:
        self._absent[absent] = None
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
        unknown = (ref for ref in item.owners if self.owner(ref, item) is None)
        return [ref for ref in unknown if not any(_named(ref, namespace) in self._absent for namespace in ("", item.namespace))]

    def decide(self, item: Item) -> Action:
        """What to do about an item none of whose owners is unknown."""
        if item.ending:
            return self._ending(item)
        if not item.owners:
            return NOTHING
        solid, gone, waiting = [], [], []
        for ref in item.owners:
            owner = self.owner(ref, item)
            if owner is None:
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


def _group(ref: OwnerReference) -> str:
    return ref.apiVersion.rpartition("/")[0]


def _named(ref: OwnerReference, namespace: str) -> _Named:
    return ref.uid, _group(ref), ref.kind, ref.name, namespace


def _identity(item: Item) -> _Named:
    return item.uid, item.ref.group, item.ref.kind, item.name, item.namespace
