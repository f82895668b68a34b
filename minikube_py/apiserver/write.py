"""Create, update and patch: the pipeline that every write goes through.

decode → default → managedFields → mutating admission → the kind's strategy → validation → validating admission → commit. Updates and
patches run it inside a compare-and-swap loop under their key's lock: one that names no resourceVersion is tried again on the newer
object, one that does gets 409. What always holds: a write that changes nothing makes no revision, and its answer is the stored object.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import orjson

from minikube_py.aio import Clock
from minikube_py.apiserver import objectmeta
from minikube_py.apiserver.api import AdmissionPlugin, AdmissionRequest, Allocator, Operation, Undo
from minikube_py.apiserver.cache import Cache, Entry
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.commit import Committer, serialise, with_revision
from minikube_py.apiserver.locks import KeyLocks
from minikube_py.apiserver.options import WriteOptions
from minikube_py.apiserver.phases import Phases
from minikube_py.meta.errors import (
    OBJECT_MODIFIED,
    AlreadyExists,
    Cause,
    Conflict,
    already_exists,
    conflict,
    invalid,
    precondition_failed,
    qualified,
)
from minikube_py.resources.api import Obj, WriteContext
from minikube_py.schema import fields
from minikube_py.schema.definitions import Definitions
from minikube_py.store.api import RevisionMismatch, Store

Mutate = Callable[[Callable[[], Obj]], Obj]
"""Makes the wanted object, normalized, in the version of the call. What it is given reads a fresh copy of the current one."""

_NAME_ATTEMPTS = 8
_SWAP_ATTEMPTS = 50


class Writer:
    """Carries out writes of objects. Raises StatusErrors."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        definitions: Definitions,
        admission: Sequence[AdmissionPlugin],
        clock: Clock,
        choose: Callable[[int], int],
        allocators: Mapping[tuple[str, str], Allocator] = {},
    ) -> None:
        self._allocators = allocators
        self._cache, self._definitions, self._clock, self._choose = cache, definitions, clock, choose
        self._admission = Phases(admission)
        self.committer = Committer(store, cache)
        self.locks = KeyLocks()

    async def create(self, call: Call, obj: Obj, options: WriteOptions) -> bytes:
        """Create an object of the call's version; the stored one comes back, in the hub version."""
        resource, request, ref = call.resource, call.request, call.resource.ref
        strategy, namespace = resource.strategy, call.info.namespace
        meta = objectmeta.metadata_of(obj)
        objectmeta.set_namespace(meta, namespace, ref.namespaced)
        objectmeta.prepare_create(meta)
        if call.ref is not ref:
            obj = resource.converters[call.ref].to_hub(obj)
            meta = obj["metadata"]
        strategy.default(obj)
        generated = not meta.get("name") and bool(meta.get("generateName"))
        if generated:
            meta["name"] = objectmeta.generate_name(meta["generateName"], self._choose)
        now = self._clock.time()
        if strategy.has_status and not strategy.keeps_status:
            obj.pop("status", None)
        self._manage_fields(call, obj, None, options, now)
        admission = AdmissionRequest(
            Operation.CREATE, resource, "", namespace, meta.get("name") or "", obj, None, request.user, options.dry_run, {}, call.warnings
        )
        await self._admission.admit(admission)
        allocator = self._allocators.get((ref.group, ref.plural))
        undos = await allocator.allocate(obj, None, options.dry_run) if allocator is not None else ()
        try:
            meta = obj["metadata"]
            meta["uid"] = objectmeta.new_uid()
            meta["creationTimestamp"] = objectmeta.stamp(int(now))
            strategy.prepare_create(obj, WriteContext(request.user, now, "", options.dry_run))
            causes = objectmeta.validate_create(meta, ref.namespaced, resource.name_rule)
            causes += strategy.validate(obj)
            if causes:
                raise invalid(ref.kind, meta.get("name") or "", causes, ref.group)
            await self._admission.validate(admission)
            call.warnings += strategy.warnings(obj, None)
            return await self._store_new(call, obj, generated, options.dry_run)
        except BaseException as error:
            await _take_back((*undos, *admission.undos), call, error)
            raise

    async def create_by_update(self, call: Call, obj: Obj, options: WriteOptions) -> bytes:
        """Create the object that an update names and that is not there. Raises Conflict where it was another one, which has gone."""
        meta = objectmeta.metadata_of(obj)
        if uid := meta.get("uid"):
            raise _another(call, uid, "")
        objectmeta.take_revision(meta)
        return await self.create(call, obj, options)

    async def _store_new(self, call: Call, obj: Obj, generated: bool, dry_run: bool) -> bytes:
        """Commit a new object; a generated name that is taken is generated again. Raises AlreadyExists."""
        resource, ref, meta, namespace = call.resource, call.resource.ref, obj["metadata"], call.info.namespace
        for _ in range(_NAME_ATTEMPTS):
            name = meta["name"]
            if dry_run:
                if self._cache.of(resource).get(namespace, name) is not None:
                    raise already_exists(ref.plural, name, ref.group)
                return serialise(ref, obj)
            try:
                return await self.committer.put(call, resource, resource.key(namespace, name), 0, serialise(ref, obj))
            except RevisionMismatch:
                if not generated:
                    raise already_exists(ref.plural, name, ref.group) from None
            meta["name"] = objectmeta.generate_name(meta["generateName"], self._choose)
        base = meta["generateName"]
        raise AlreadyExists(
            f'{qualified(ref.plural, ref.group)} "{base}" already exists, the server was not able to generate a unique name for the object',
            details={"name": base, **({"group": ref.group} if ref.group else {}), "kind": ref.plural, "retryAfterSeconds": 1},
        )

    async def change(
        self,
        call: Call,
        mutate: Mutate,
        options: WriteOptions,
        *,
        subresource: str = "",
        create: Callable[[], Awaitable[bytes]] | None = None,
    ) -> tuple[bytes, bool]:
        """Change the named object; (the stored one, whether it was created). `create` is what to do where the object is not there."""
        resource, namespace, name = call.resource, call.info.namespace, call.info.name
        objects = self._cache.of(resource)
        async with self.locks.hold(call.key):
            for _ in range(_SWAP_ATTEMPTS):
                entry = objects.get(namespace, name)
                try:
                    if entry is not None:
                        return await self._change(call, entry, mutate, options, subresource), False
                    if create is None:
                        raise call.missing()
                    return await create(), True
                except RevisionMismatch as lost:
                    # Another server, or a deletion, was faster: the cache follows the log, so wait until it has caught up.
                    await self._cache.wait_for(lost.actual)
                except AlreadyExists:
                    if create is None or objects.get(namespace, name) is None:
                        raise
        raise conflict(resource.ref.plural, name, OBJECT_MODIFIED, resource.ref.group)

    async def swap(self, call: Call, mutate: Callable[[Obj], Obj], *, dry_run: bool = False) -> bytes:
        """Change the named object by compare-and-swap and nothing else: for endpoints whose whole rules are in `mutate` (bindings, as
        upstream writes them). A resourceVersion and uid that `mutate` leaves in the metadata are preconditions."""
        resource, ref = call.resource, call.resource.ref
        async with self.locks.hold(call.key):
            for _ in range(_SWAP_ATTEMPTS):
                entry = self._cache.of(resource).get(call.info.namespace, call.info.name)
                if entry is None:
                    raise call.missing()
                body = serialise(ref, mutate(entry.decode()))
                if dry_run:
                    return with_revision(ref, body, entry.revision)
                try:
                    return await self.committer.put(call, resource, call.key, entry.revision, body)
                except RevisionMismatch as lost:
                    await self._cache.wait_for(lost.actual)
        raise conflict(ref.plural, call.info.name, OBJECT_MODIFIED, ref.group)

    async def admit(self, request: AdmissionRequest) -> None:
        """Both phases of admission for what is not an object of its own (a Binding, an Eviction, a connection)."""
        await self._admission.admit(request)
        await self._admission.validate(request)

    async def _change(self, call: Call, entry: Entry, mutate: Mutate, options: WriteOptions, subresource: str) -> bytes:
        resource, request, ref = call.resource, call.request, call.resource.ref
        strategy, name = resource.strategy, call.info.name
        old = entry.decode()
        old_meta = old["metadata"]
        old_meta.pop("resourceVersion", None)
        if call.ref is ref:
            new = mutate(entry.decode)
        else:
            from_hub = resource.converters[call.ref].from_hub
            new = mutate(lambda: from_hub(entry.decode()))
        meta = objectmeta.metadata_of(new)
        given = objectmeta.take_revision(meta)
        self._check_current(call, entry, old_meta, meta, given)
        objectmeta.set_namespace(meta, call.info.namespace, ref.namespaced)
        if call.ref is not ref:
            new = resource.converters[call.ref].to_hub(new)
            meta = new["metadata"]
        strategy.default(new)
        now = self._clock.time()
        self._manage_fields(call, new, old, options, now, subresource)
        admission = AdmissionRequest(
            Operation.UPDATE, resource, subresource, call.info.namespace, name, new, old, request.user, options.dry_run, {}, call.warnings
        )
        await self._admission.admit(admission)
        objectmeta.carry_over(meta, old_meta)
        allocator = self._allocators.get((ref.group, ref.plural)) if not subresource else None
        undos = await allocator.allocate(new, old, options.dry_run) if allocator is not None else ()
        try:
            context = WriteContext(request.user, now, subresource, options.dry_run)
            strategy.prepare_update(new, old, context)
            causes = objectmeta.validate_update(new["metadata"], old_meta)
            causes += strategy.validate_update(new, old, context)
            if causes:
                raise invalid(ref.kind, name, causes, ref.group)
            await self._admission.validate(admission)
            call.warnings += strategy.warnings(new, old)
            if new == old and orjson.dumps(new, option=orjson.OPT_SORT_KEYS) == orjson.dumps(old, option=orjson.OPT_SORT_KEYS):
                return entry.value
            value = await self._store_changed(call, entry, new, old, options.dry_run)
        except BaseException as error:
            await _take_back((*undos, *admission.undos), call, error)
            raise
        if allocator is not None and not options.dry_run:
            await allocator.release(old, new)
        return value

    async def _store_changed(self, call: Call, entry: Entry, new: Obj, old: Obj, dry_run: bool) -> bytes:
        """Commit a change, or finish the deletion that waited for it. Raises RevisionMismatch where it lost a race: whether the version
        that the client gave is still the current one shows at the next attempt."""
        resource, ref = call.resource, call.resource.ref
        body = serialise(ref, new)
        if dry_run:
            return with_revision(ref, body, entry.revision)
        if not ends_deletion(new, old):
            return await self.committer.put(call, resource, call.key, entry.revision, body)
        record = await self.committer.remove(call, resource, call.key, entry.revision)
        allocator = self._allocators.get((ref.group, ref.plural))
        if allocator is not None:
            await allocator.release(old)
        return with_revision(ref, body, record.revision)

    def check_name(self, call: Call, obj: Obj) -> None:
        """Whether a changed object is the one that the call names. Raises BadRequest."""
        objectmeta.check_name(objectmeta.metadata_of(obj), call.info.name, call.info.namespace)

    def _check_current(self, call: Call, entry: Entry, old_meta: Obj, meta: Obj, given: int) -> None:
        ref, name = call.resource.ref, call.info.name
        uid = meta.get("uid")
        if uid and uid != old_meta.get("uid") and call.request.method == "PUT":  # a patch of it is a change like any other
            raise _another(call, uid, old_meta.get("uid", ""))
        if given and given != entry.revision:
            raise conflict(ref.plural, name, OBJECT_MODIFIED, ref.group)
        if not given and not getattr(call.resource.strategy, "allow_unconditional_update", True):
            # Go prints the missing version as the unsigned number that it is.
            causes = [Cause("FieldValueInvalid", "metadata.resourceVersion", "Invalid value: 0x0: must be specified for an update")]
            raise invalid(ref.kind, name, causes, ref.group)

    def _manage_fields(self, call: Call, new: Obj, old: Obj | None, options: WriteOptions, now: float, subresource: str = "") -> None:
        """Who owns which field, from what the client wants to change: what the endpoint ignores is seen as unchanged."""
        seen = new
        if old is not None and call.resource.strategy.has_status:
            if subresource == "status":
                seen = {**old, "apiVersion": new["apiVersion"], "kind": new["kind"], "metadata": new["metadata"]}
                seen.pop("status", None)
                if "status" in new:
                    seen["status"] = new["status"]
            elif "status" in old or "status" in new:
                seen = {n: v for n, v in new.items() if n != "status"}
                if "status" in old:
                    seen["status"] = old["status"]
        ref = call.ref
        if ref is not call.resource.ref:
            convert = call.resource.converters[ref].from_hub
            seen = convert(orjson.loads(orjson.dumps(seen)))
            old = convert(orjson.loads(orjson.dumps(old))) if old is not None else None
        fields.update_managed_fields(
            self._definitions.schema(ref.group, ref.version, ref.kind),
            seen,
            old,
            manager=options.manager,
            operation="Update",
            api_version=ref.api_version,
            subresource=subresource,
            now=objectmeta.stamp(int(now)),
        )
        managed = seen["metadata"].get("managedFields")
        if managed:
            new["metadata"]["managedFields"] = managed
        else:
            new["metadata"].pop("managedFields", None)


def ends_deletion(new: Obj, old: Obj) -> bool:
    """Whether an update took away the last thing that held up a deletion: then the object goes."""
    old_meta = old["metadata"]
    if not old_meta.get("deletionTimestamp") or new["metadata"].get("finalizers") or old_meta.get("deletionGracePeriodSeconds"):
        return False
    return new["kind"] != "Namespace" or new["apiVersion"] != "v1" or not (new.get("spec") or {}).get("finalizers")


def _another(call: Call, wanted: str, found: str) -> Conflict:
    """What a client is told who has seen an object of the same name, with another uid."""
    ref = call.resource.ref
    return precondition_failed(ref.plural, call.info.name, call.key, "UID", wanted, found, ref.group)


async def _take_back(undos: Iterable[Undo], call: Call, error: BaseException) -> None:
    """What a write was promised, if it has failed. One that was cancelled on its way into the log is made all the same: should it fail
    there, the repair of allocations and quotas lets go what is held for nothing."""
    if call.committing and isinstance(error, asyncio.CancelledError):
        return
    for undo in undos:
        await undo()
