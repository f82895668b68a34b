"""The last step of every write: an object is serialised once, committed by compare-and-swap, and comes back as the bytes that readers get.

What always holds: stored bytes start with apiVersion, kind and metadata, in this order, and never hold a resourceVersion; the cache has
the new state before a commit returns, so that a writer reads its own write.
"""

from __future__ import annotations

import orjson

from minikube_py.aio import Turns
from minikube_py.apiserver.cache import Cache
from minikube_py.apiserver.call import Call
from minikube_py.meta.errors import InternalError, ServiceUnavailable
from minikube_py.resources.api import Obj, Resource
from minikube_py.store.api import Durability, Record, RevisionMismatch, Store, StoreClosed, StoreFull, Write
from minikube_py.types.meta import ResourceRef


def serialise(ref: ResourceRef, obj: Obj) -> bytes:
    """An object of the stored version as its stored bytes. Raises InternalError for what JSON cannot hold."""
    meta = obj["metadata"]
    meta.pop("resourceVersion", None)
    ordered = {"apiVersion": ref.api_version, "kind": ref.kind, "metadata": meta}
    for name, value in obj.items():
        if name not in ordered:
            ordered[name] = value
    try:
        # A copy of the right size: orjson's result takes 4 KiB of memory or more as long as it lives, and the log may hold it for minutes.
        return memoryview(orjson.dumps(ordered)).tobytes()
    except orjson.JSONEncodeError as error:
        raise InternalError(f"Internal error occurred: {error}") from error


def with_revision(ref: ResourceRef, body: bytes, revision: int) -> bytes:
    """Stored bytes with their resourceVersion, as clients see them."""
    at = len(ref.api_version) + len(ref.kind) + _FIXED
    return b'%b"resourceVersion":"%d",%b' % (body[:at], revision, body[at:])


_FIXED = len('{"apiVersion":"","kind":"","metadata":{')


class Committer:
    """Commits through the store and reads back through the cache."""

    def __init__(self, store: Store, cache: Cache) -> None:
        self.store, self.cache = store, cache
        self._turns = Turns()

    async def put(self, call: Call, resource: Resource, key: str, expected: int, body: bytes) -> bytes:
        """Store bytes where the key is at `expected` (0: absent); what comes back has the resourceVersion. Raises RevisionMismatch."""
        record = await self._commit(call, resource, Write(key, expected, body, call.actor, _durability(call, resource)))
        entry = self.cache.of(resource).by_key(key)
        if entry is not None and entry.revision == record.revision:
            return entry.value
        return with_revision(resource.ref, body, record.revision)

    async def remove(self, call: Call, resource: Resource, key: str, expected: int) -> Record:
        """Delete the key where it is at `expected`. Raises RevisionMismatch."""
        return await self._commit(call, resource, Write(key, expected, None, call.actor, _durability(call, resource)))

    async def _commit(self, call: Call, resource: Resource, write: Write) -> Record:
        call.committing = True
        try:
            record = await self.store.commit(write)
        except RevisionMismatch:
            call.committing = False
            raise
        except StoreFull as error:
            raise InternalError(f"Internal error occurred: the data directory's file system is full: {error}") from error
        except StoreClosed as error:
            raise ServiceUnavailable("the server is shutting down") from error
        # all writes of a batch come back together
        await self._turns.take()
        return record


def _durability(call: Call, resource: Resource) -> Durability:
    return Durability.RELAXED if resource.relaxed(call.info.namespace) else Durability.DURABLE
