"""Resource quotas: what their namespaces use, counted anew whenever something that they are about changes.

plan(): a quota and the sums → its new status. Admission raises a quota's usage when something is created, before it is there; this
controller corrects it, downwards as a rule. So that what was charged but is not there yet is not taken back, a usage is only corrected
once the quota has not changed for a moment, and by compare-and-swap: whatever is charged in between wins, and is counted next time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from minikube_py.aio import Health, Tasks, cancel
from minikube_py.control import ControlLoop, Informer, Watch, WorkQueue
from minikube_py.controllers.base import Context, Controller, Pace
from minikube_py.controllers.discovery import discover
from minikube_py.meta.errors import NotFound
from minikube_py.meta.quantity import Quantity
from minikube_py.resources import quota
from minikube_py.resources.podresources import added
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.devices import ResourceClaim
from minikube_py.types.meta import Object, PartialObject, ResourceRef
from minikube_py.types.network import Service
from minikube_py.types.pod import Pod
from minikube_py.types.policy import ResourceQuota

log = logging.getLogger(__name__)

QUIET = 0.25
"""Seconds for which a quota must not have changed: far longer than it takes from a charge to the write that it was for."""
RESYNC = 300.0
_DISCOVERY = 30.0
_AT_ONCE = 500
"""Objects that are summed up before other tasks get their turn."""
_MEASURED: tuple[type[Object], ...] = (Pod, Service, PersistentVolumeClaim, ResourceClaim)


class Plan(NamedTuple):
    """The status to write, None for the one that there is; and whether it can be told before the quota has been quiet."""

    status: Mapping[str, Mapping[str, str]] | None
    at_once: bool


def plan(current: ResourceQuota, sums: Mapping[str, Quantity]) -> Plan:
    """What is used of what the quota limits. A limit that is new is told at once; what is being charged stays as it is then."""
    hard, shown = quota.parsed(current.spec.hard), quota.parsed(current.status.hard)
    known = quota.parsed(current.status.used)
    fresh = hard != shown or any(name not in known for name in sums)
    found = {**sums, **known} if fresh else {**known, **sums}
    used = {name: found[name] for name in hard if name in found}
    if not fresh and used == known:
        return Plan(None, at_once=True)
    status = {"hard": {n: str(v) for n, v in hard.items()}, "used": {n: str(v) for n, v in used.items()}}
    return Plan(status, fresh)


class ResourceQuotaController(Controller):
    """Keeps status.used."""

    name = "resourcequota"
    identity = "resourcequota-controller"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._quotas = context.informers.of(ResourceQuota)
        self._measured = {view.resource: context.informers.of(view) for view in _MEASURED}
        self._reset()

    def _reset(self) -> None:
        self._queue = WorkQueue()
        self._tasks = Tasks()
        self._counted: dict[ResourceRef, tuple[Informer[Any], asyncio.Task[None] | None]] = {}
        self._kinds: Mapping[tuple[str, str], ResourceRef] = {}
        self._discovered = 0.0
        self._seen: dict[str, tuple[str, float]] = {}
        self._pace = Pace(self.clock)
        self._run = object()

    async def run(self, health: Health) -> None:
        self._reset()
        try:
            await ControlLoop(self, self.workers, self._queue, self.informers.turns).run(health)
        finally:
            self._run = object()
            await self._tasks.close()

    def watches(self) -> Sequence[Watch]:
        kinds = [Watch(informer, self._concerned(ref)) for ref, informer in self._measured.items()]
        return (Watch(self._quotas), *kinds)

    def _concerned(self, ref: ResourceRef) -> Any:
        """The quotas that an object of a kind counts for."""

        def keys(obj: Object) -> Iterable[str]:
            if not len(self._quotas):
                return ()
            quotas = self._quotas.list(obj.metadata.namespace)
            return [each.key for each in quotas if quota.names_of(ref.group, ref.plural, each.spec.hard)]

        return keys

    async def reconcile(self, key: str) -> float | None:
        current = self._quotas.get(key)
        if current is None:
            self._seen.pop(key, None)
            await self._prune()
            return None
        now = self.clock.monotonic()
        version, since = self._seen.get(key, ("", now))
        if version != current.metadata.resourceVersion:
            self._seen[key], since = (current.metadata.resourceVersion, now), now
        quiet = since + QUIET - now
        if quiet > 0 and plan(current, {}).status is None and set(current.spec.hard) <= set(current.status.used):
            return quiet
        wait = self._pace.wait(key)
        if wait > 0:
            return wait
        began = self.clock.monotonic()
        planned = plan(current, await self._sums(current))
        self._pace.took(key, self.clock.monotonic() - began)
        if planned.status is None:
            return RESYNC
        if quiet > 0 and not planned.at_once:
            return quiet
        await self._write(current, planned.status)
        return QUIET

    async def _write(self, current: ResourceQuota, status: Mapping[str, Any]) -> None:
        """Put the status of the quota that was summed up for, and of no later one: a change since then is a Conflict.

        A status is put with the object's metadata, so the object is needed whole; upstream's role lets this controller list, not get.
        """
        meta, path = current.metadata, ResourceQuota.resource.path(current.metadata.namespace)
        listed = orjson.loads(await self.client.request("GET", path, query={"fieldSelector": f"metadata.name={meta.name}"}))
        for live in listed["items"]:
            body = {**live, "apiVersion": "v1", "kind": "ResourceQuota", "status": dict(status)}
            body["metadata"] = {**live["metadata"], "uid": meta.uid, "resourceVersion": meta.resourceVersion}
            with contextlib.suppress(NotFound):
                await self.client.update(ResourceQuota, body, meta.name, meta.namespace, subresource="status")

    # Summing up

    async def _sums(self, current: ResourceQuota) -> dict[str, Quantity]:
        names = tuple(current.spec.hard)
        sums: dict[str, Quantity] = {}
        kinds = {ref: informer for ref, informer in self._measured.items() if quota.names_of(ref.group, ref.plural, names)}
        for group_and_plural in {kind for name in names if (kind := quota.counted(name)) is not None}:
            ref = await self._kind(*group_and_plural)
            if ref is not None and ref not in kinds:
                kinds[ref] = await self._follow(ref)
        for ref, informer in kinds.items():
            objects = informer.list(current.metadata.namespace)
            # a kind without objects is told as well: nothing of it is used
            for at in range(0, max(len(objects), 1), _AT_ONCE):
                some = objects[at : at + _AT_ONCE]
                sums = added(sums, quota.total(names, ref.group, ref.plural, some, current, self.clock.time()))
                await asyncio.sleep(0)
        return sums

    async def _kind(self, group: str, plural: str) -> ResourceRef | None:
        """The kind whose objects are counted; None where the server has none of that name."""
        found = self._kinds.get((group, plural))
        now = self.clock.monotonic()
        if found is None and (not self._kinds or now > self._discovered + _DISCOVERY):
            self._discovered = now
            served = await discover(self.client)
            self._kinds = {(s.ref.group, s.ref.plural): s.ref for s in served if s.ref.namespaced and {"list", "watch"} <= s.verbs}
            found = self._kinds.get((group, plural))
        return found if found is None or (group, plural) not in quota.UNCOUNTED else None

    async def _follow(self, ref: ResourceRef) -> Informer[Any]:
        """The objects of a kind that is only counted: others' informer where there is one, else one of their metadata."""
        known = self._counted.get(ref)
        if known is None:
            informer: Informer[Any] | None = self.informers.all.get((ref, ""))
            task = None
            if informer is None:
                informer = Informer(self.client, PartialObject, resource=ref)
                task = self._tasks.spawn(informer.run(), f"quota informer {ref.plural}")
            known = self._counted[ref] = (informer, task)
            informer.listen(self._listener(ref, informer))
        await known[0].synced.wait()
        return known[0]

    def _listener(self, ref: ResourceRef, informer: Informer[Any]) -> Any:
        run, concerned = self._run, self._concerned(ref)

        def listener(old: Object | None, new: Object | None) -> None:
            if self._run is not run or ref not in self._counted or self._counted[ref][0] is not informer:
                return
            # how many there are changes only when one comes or goes
            if old is None or new is None:
                for key in concerned(new if new is not None else old):
                    self._queue.add(key)

        return listener

    async def _prune(self) -> None:
        """Follow no kind that no quota counts any longer."""
        wanted = {quota.counted(name) for each in self._quotas.list() for name in each.spec.hard}
        for ref in [r for r in self._counted if (r.group, r.plural) not in wanted]:
            _, task = self._counted.pop(ref)
            if task is not None:
                await cancel(task)
