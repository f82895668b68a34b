"""Deletion: preconditions, grace, finalizers and propagation; of one object and of a collection.

`plan` is the policy: from the stored object and the options to what is to be stored, or that the object goes now. The rest carries it out
under the object's lock, by compare-and-swap. What always holds: an object with finalizers is never removed here, and one that is being
deleted already can only have its grace shortened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from minikube_py.aio import Clock
from minikube_py.apiserver import answers, objectmeta, options
from minikube_py.apiserver.api import AdmissionPlugin, AdmissionRequest, Allocator, Operation, Response
from minikube_py.apiserver.cache import Cache, Entry
from minikube_py.apiserver.call import Call
from minikube_py.apiserver.commit import Committer, serialise, with_revision
from minikube_py.apiserver.decode import parse
from minikube_py.apiserver.locks import KeyLocks
from minikube_py.apiserver.options import DeleteOptions
from minikube_py.apiserver.phases import Phases
from minikube_py.apiserver.present import Presenter
from minikube_py.meta.errors import NotFound, StatusError, conflict, not_found
from minikube_py.resources.api import Obj, Resource
from minikube_py.store.api import RevisionMismatch
from minikube_py.types.meta import parse_timestamp, timestamp

RETURNED = frozenset(
    {
        ("", "pods"),
        ("", "services"),
        ("", "persistentvolumeclaims"),
        ("", "persistentvolumes"),
        ("", "podtemplates"),
        ("", "resourcequotas"),
        ("", "serviceaccounts"),
    }
)
"""The kinds whose deletion answers with the object; others answer with a Status."""

ORPHANING = frozenset({("", "replicationcontrollers"), ("batch", "jobs")})
"""The kinds whose dependents stay unless the request says otherwise."""

UNCOLLECTED = frozenset({("", "events"), ("events.k8s.io", "events")})
"""The kinds that never have dependents."""

_PARALLEL = 16
_SWAP_ATTEMPTS = 50


class Plan(NamedTuple):
    """What a deletion does now: `store` the object as it is given (being deleted), or nothing (`pending`), or, with neither, remove it."""

    store: Obj | None = None
    pending: bool = False


def plan(resource: Resource, obj: Obj, wanted: DeleteOptions, now: float) -> Plan:
    """What a request to delete `obj` (a copy that may be changed) does."""
    meta = obj["metadata"]
    if resource.ref.plural == "namespaces" and not resource.ref.group:
        return _plan_namespace(obj, wanted, now)
    grace = resource.strategy.grace_period(obj, wanted.grace)
    graceful = False
    if meta.get("deletionTimestamp"):
        current = meta.get("deletionGracePeriodSeconds") or 0
        if current:
            if wanted.grace is None or wanted.grace >= current:
                return Plan(pending=True)
            ends = parse_timestamp(meta["deletionTimestamp"]) - current + wanted.grace
            meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"] = timestamp(ends), wanted.grace
            grace, graceful = wanted.grace, True
    elif grace > 0:
        meta["deletionTimestamp"], meta["deletionGracePeriodSeconds"] = timestamp(now + grace), grace
        _count_generation(meta)
        graceful = True
    finalizers = _finalizers(resource, meta.get("finalizers") or (), wanted.policy)
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)
    if graceful and grace > 0:
        return Plan(store=obj)
    if finalizers:
        if not graceful:
            _mark(meta, now)
        return Plan(store=obj)
    return Plan()


def _plan_namespace(obj: Obj, wanted: DeleteOptions, now: float) -> Plan:
    meta = obj["metadata"]
    finalizers = _finalizers(None, meta.get("finalizers") or (), wanted.policy)
    if not finalizers and not (obj.get("spec") or {}).get("finalizers"):
        return Plan()
    if not meta.get("deletionTimestamp"):
        meta["deletionTimestamp"] = timestamp(now)
    obj.setdefault("status", {})["phase"] = "Terminating"
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)
    return Plan(store=obj)


def _mark(meta: Obj, now: float) -> None:
    if not meta.get("deletionTimestamp"):
        meta["deletionTimestamp"] = timestamp(now)
        _count_generation(meta)
    meta["deletionGracePeriodSeconds"] = 0


def _count_generation(meta: Obj) -> None:
    if meta.get("generation"):
        meta["generation"] += 1


def _finalizers(resource: Resource | None, current: Sequence[str], policy: str) -> list[str]:
    """The finalizers once the propagation policy is among them: the object's own keep their order."""
    ref = (resource.ref.group, resource.ref.plural) if resource is not None else ("", "")
    kept = [f for f in current if f not in (objectmeta.ORPHAN, objectmeta.FOREGROUND)]
    if ref in UNCOLLECTED:
        return kept
    if not policy:
        if objectmeta.ORPHAN in current:
            policy = "Orphan"
        elif objectmeta.FOREGROUND in current:
            policy = "Foreground"
        elif ref in ORPHANING:
            policy = "Orphan"
    if policy == "Orphan":
        wanted = [*kept, objectmeta.ORPHAN]
    elif policy == "Foreground":
        wanted = [*kept, objectmeta.FOREGROUND]
    else:
        wanted = kept
    return list(current) if set(wanted) == set(current) else wanted


class Deleter:
    """Carries out deletions. Raises StatusErrors."""

    def __init__(
        self,
        cache: Cache,
        committer: Committer,
        locks: KeyLocks,
        admission: Sequence[AdmissionPlugin],
        presenter: Presenter,
        clock: Clock,
        allocators: Mapping[tuple[str, str], Allocator] = {},
    ) -> None:
        self._allocators = allocators
        self._cache, self._committer, self._locks = cache, committer, locks
        self._admission, self._presenter, self._clock = Phases(admission), presenter, clock

    def options(self, call: Call) -> DeleteOptions:
        """The options of a deletion, from its body or query."""
        request = call.request
        if request.body:
            body, _ = parse(request.body, request.headers.get("content-type", ""), "DeleteOptions")
        else:
            body = None
        return options.delete_options(request.query, body)

    async def delete(self, call: Call) -> Response:
        """Delete the named object: the answer is the object where it lives on for a while, else mostly a Status."""
        wanted = self.options(call)
        body, entry, finished = await self.remove(call, call.info.namespace, call.info.name, wanted)
        ref = call.resource.ref
        if body is not None and (not finished or (ref.group, ref.plural) in RETURNED):
            return self._presenter.object(call, body, 202 if wanted.accepted and not finished else 200)
        details: dict[str, Any] = {"name": call.info.name, **({"group": ref.group} if ref.group else {}), "kind": ref.plural}
        details["uid"] = entry.uid
        return answers.success(details)

    async def remove(self, call: Call, namespace: str, name: str, wanted: DeleteOptions) -> tuple[bytes | None, Entry, bool]:
        """Delete one object: (its last or new bytes, the entry it was, whether it is gone). Raises NotFound, Conflict."""
        resource = call.resource
        objects = self._cache.of(resource)
        key = resource.key(namespace, name)
        async with self._locks.hold(key):
            for _ in range(_SWAP_ATTEMPTS):
                entry = objects.get(namespace, name)
                if entry is None:
                    raise not_found(resource.ref.plural, name, resource.ref.group)
                try:
                    return await self._remove(call, entry, key, namespace, name, wanted)
                except RevisionMismatch as lost:
                    await self._cache.wait_for(lost.actual)
        raise conflict(resource.ref.plural, name, "the object changes too often to be deleted", resource.ref.group)

    async def _remove(
        self, call: Call, entry: Entry, key: str, namespace: str, name: str, wanted: DeleteOptions
    ) -> tuple[bytes | None, Entry, bool]:
        resource = call.resource
        ref = resource.ref
        obj = entry.decode()
        meta = obj["metadata"]
        check_preconditions(resource, name, meta, wanted)
        admission = AdmissionRequest(
            Operation.DELETE,
            resource,
            "",
            namespace,
            name,
            None,
            obj,
            call.request.user,
            wanted.dry_run,
            {},
            call.warnings,
        )
        await self._admission.admit(admission)
        await self._admission.validate(admission)
        todo = plan(resource, obj, wanted, self._clock.time())
        if todo.pending:
            return entry.value, entry, False
        if todo.store is None:
            if not wanted.dry_run:
                await self._committer.remove(call, resource, key, entry.revision)
                allocator = self._allocators.get((ref.group, ref.plural))
                if allocator is not None:
                    await allocator.release(obj)
            return entry.value, entry, True
        body = serialise(ref, todo.store)
        if wanted.dry_run or with_revision(ref, body, entry.revision) == entry.value:
            return with_revision(ref, body, entry.revision), entry, False
        return await self._committer.put(call, resource, key, entry.revision, body), entry, False

    async def collection(self, call: Call, entries: Sequence[Entry], revision: int) -> Response:
        """Delete the objects of a collection; those that went meanwhile are no error. The answer lists them as they were."""
        wanted = self.options(call)
        waiting = list(reversed(entries))
        failures: list[StatusError] = []

        async def work() -> None:
            while waiting and not failures:
                entry = waiting.pop()
                try:
                    await self.remove(call, entry.namespace, entry.name, wanted)
                except NotFound:
                    continue
                except StatusError as error:
                    failures.append(error)

        async with asyncio.TaskGroup() as group:
            for number in range(min(_PARALLEL, len(entries))):
                group.create_task(work(), name=f"delete collection {number}")
        if failures:
            raise failures[0]
        return self._presenter.collection(call, entries, revision)


def check_preconditions(resource: Resource, name: str, meta: Mapping[str, Any], wanted: DeleteOptions) -> None:
    """Whether the object is the one that the request means. Raises Conflict."""
    ref = resource.ref
    if wanted.uid and wanted.uid != meta.get("uid"):
        why = (
            f"the UID in the precondition ({wanted.uid}) does not match the UID in record ({meta.get('uid')}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict(ref.plural, name, why, ref.group)
    if wanted.resource_version and wanted.resource_version != meta.get("resourceVersion"):
        why = (
            f"the ResourceVersion in the precondition ({wanted.resource_version}) does not match the ResourceVersion in record "
            f"({meta.get('resourceVersion')}). The object might have been modified"
        )
        raise conflict(ref.plural, name, why, ref.group)
