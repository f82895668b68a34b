"""ResourceQuota: a namespace's quotas are charged for what is created in it, or the write is refused.

It comes last, so that nothing is charged for what another plugin refuses. A quota's status is the ledger, changed by compare-and-swap: all
writes of a namespace that wait while one swap is on its way are judged together and charged in one (64 clients at once cost a few swaps,
and none slips through). A write that fails after all gives back what it was charged; deletions are credited by the quota controller.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from minikube_py.apiserver.admission.base import Plugin, refusal
from minikube_py.apiserver.api import AdmissionRequest, Operation
from minikube_py.apiserver.cache import Cache, Entry
from minikube_py.apiserver.commit import serialise
from minikube_py.apiserver.locks import KeyLocks
from minikube_py.meta.errors import StatusError
from minikube_py.resources import quota
from minikube_py.resources.api import Obj
from minikube_py.resources.podresources import added
from minikube_py.resources.quota import Usage
from minikube_py.store.api import RevisionMismatch, Write
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.devices import ResourceClaim
from minikube_py.types.meta import Object
from minikube_py.types.network import Service
from minikube_py.types.pod import Pod
from minikube_py.types.policy import ResourceQuota as Quota

_VIEWS: Mapping[tuple[str, str], type[Object]] = {
    (view.resource.group, view.resource.plural): view for view in (Pod, Service, PersistentVolumeClaim, ResourceClaim)
}
"""Kinds that are measured, not only counted."""
_ACTOR = "system:apiserver|quota"

Usages = Mapping[str, Usage]
"""By the names of quotas: what a write adds to each."""


class Account(NamedTuple):
    """One quota as it stands."""

    name: str
    quota: Quota
    used: Usage


class _Waiter(msgspec.Struct, eq=False):
    request: AdmissionRequest
    done: asyncio.Future[None]
    charged: Usages = msgspec.field(default_factory=dict)


class ResourceQuota(Plugin):
    name = "ResourceQuota"

    def __init__(self, cache: Cache, clock: Callable[[], float] = time.time) -> None:
        self._cache, self._quotas, self._clock = cache, cache.of(Quota.resource), clock
        self._waiting: dict[str, list[_Waiter]] = {}
        self._locks = KeyLocks()

    async def validate(self, request: AdmissionRequest) -> None:
        namespace = request.namespace
        if not namespace or not len(self._quotas) or not _concerns(request) or not self._quotas.entries(namespace):
            return
        waiter = _Waiter(request, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(namespace, []).append(waiter)
        try:
            async with self._locks.hold(namespace):
                # whoever had the lock before may have judged this one too
                if not waiter.done.done():
                    await self._judge(namespace)
            waiter.done.result()
        except asyncio.CancelledError:
            waiter.done.cancel()
            raise
        if waiter.charged:
            request.undos.append(lambda: self._give_back(namespace, waiter.charged))

    async def _judge(self, namespace: str) -> None:
        """Judge and charge all that wait, this task's own write among them."""
        waiters = [waiter for waiter in self._waiting.pop(namespace, []) if not waiter.done.done()]
        try:
            accounts = {entry.name: _account(entry) for entry in self._quotas.entries(namespace)}
            for waiter in waiters:
                self._weigh(waiter, accounts)
            for name in sorted({name for waiter in waiters for name in waiter.charged}):
                await self._charge(namespace, name, waiters)
            for waiter in waiters:
                if not waiter.done.done():
                    waiter.done.set_result(None)
        finally:
            # cancelled or broken half-way: the others are for the next one
            again = [waiter for waiter in waiters if not waiter.done.done()]
            if again:
                self._waiting.setdefault(namespace, [])[:0] = again

    def _weigh(self, waiter: _Waiter, accounts: dict[str, Account], only: frozenset[str] | None = None) -> None:
        """Refuse a write, or note what it is to be charged and raise the accounts by it."""
        try:
            charges = charges_of(waiter.request, accounts, self._clock())
        except StatusError as error:
            waiter.done.set_exception(error)
            waiter.charged = {}
            return
        if waiter.request.dry_run:
            return
        waiter.charged = charges
        for name, delta in charges.items():
            accounts[name] = accounts[name]._replace(used=added(accounts[name].used, delta))

    async def _charge(self, namespace: str, name: str, waiters: Sequence[_Waiter]) -> None:
        """Write what a quota is charged for all; where it has changed meanwhile, its part is judged anew."""
        while True:
            charged = [w for w in waiters if name in w.charged and not w.done.done()]
            entry = self._quotas.get(namespace, name)
            if not charged:
                return
            if entry is None:
                # the quota has gone, and its limits with it
                for waiter in charged:
                    waiter.charged = {n: delta for n, delta in waiter.charged.items() if n != name}
                return
            account = _account(entry)
            for waiter in charged:
                delta = waiter.charged[name]
                fault = exceeded(account, delta)
                if fault:
                    others = {n: d for n, d in waiter.charged.items() if n < name}
                    waiter.charged = {}
                    waiter.done.set_exception(refusal(waiter.request, fault))
                    await self._give_back(namespace, others)
                    continue
                account = account._replace(used=added(account.used, delta))
            if all(waiter.done.done() for waiter in charged) or await self._swap(entry, account.used):
                return

    async def _swap(self, entry: Entry, used: Usage) -> bool:
        """Write a quota's usage; False where the quota has changed since."""
        obj = entry.decode()
        obj["metadata"].pop("resourceVersion", None)
        obj.setdefault("status", {})["used"] = {name: str(amount) for name, amount in used.items()}
        try:
            await self._cache.store.commit(Write(entry.key, entry.revision, serialise(Quota.resource, obj), _ACTOR))
        except RevisionMismatch as lost:
            await self._cache.wait_for(lost.actual)
            return False
        return True

    async def _give_back(self, namespace: str, charged: Usages) -> None:
        for name, delta in charged.items():
            while (entry := self._quotas.get(namespace, name)) is not None:
                used = _account(entry).used
                if await self._swap(entry, {**used, **quota.difference({n: used[n] for n in delta if n in used}, delta)}):
                    break


def _account(entry: Entry) -> Account:
    view = entry.view(Quota)
    return Account(entry.name, view, quota.parsed(view.status.used))


def _concerns(request: AdmissionRequest) -> bool:
    """Whether a write can change what its namespace uses."""
    ref, operation = request.resource.ref, request.operation
    if request.object is None or (ref.group, ref.plural) in quota.UNCOUNTED:
        return False
    if operation is Operation.CREATE:
        return not request.subresource
    if operation is not Operation.UPDATE or ref.group:
        return False
    match ref.plural, request.subresource:
        case "services" | "persistentvolumeclaims", "":
            return True
        case "persistentvolumeclaims", "status":
            return True
        case "pods", "resize":
            return True
        case "pods", "":
            return _deadline(request.object) != _deadline(request.old)
    return False


def _deadline(pod: Obj | None) -> bool:
    """Whether a pod's time is limited: it changes scope when that changes."""
    return ((pod or {}).get("spec") or {}).get("activeDeadlineSeconds") is not None


def charges_of(request: AdmissionRequest, accounts: Mapping[str, Account], now: float) -> dict[str, Usage]:
    """What a write adds to each of the quotas that are about it. Raises Forbidden where it may not."""
    ref = request.resource.ref
    obj = _view(request, request.object)
    old = _view(request, request.old) if request.operation is Operation.UPDATE else None
    about: dict[str, frozenset[str]] = {}
    for name, account in accounts.items():
        scopes = quota.requirements(account.quota)
        names = quota.names_of(ref.group, ref.plural, account.quota.status.hard)
        if not names or not all(quota.in_scope(scope, obj) for scope in scopes):
            continue
        silent = quota.missing(obj, names) if isinstance(obj, Pod) else ""
        if silent:
            raise refusal(request, f"failed quota: {name}: {silent}")
        if any(each not in account.quota.status.used for each in names):
            raise refusal(request, f"status unknown for quota: {name}, resources: {','.join(sorted(names))}")
        about[name] = names
    if not about:
        return {}
    used = quota.usage(ref.group, ref.plural, obj, now)
    charges: dict[str, Usage] = {}
    for name in about:
        account = accounts[name]
        delta = used
        # an object that comes into a scope by the change is charged whole
        if request.old is not None and all(quota.in_scope(scope, old) for scope in quota.requirements(account.quota)):
            delta = quota.difference(used, quota.usage(ref.group, ref.plural, old, now))
        delta = {n: amount for n, amount in delta.items() if amount and n in account.quota.status.hard}
        if not delta:
            continue
        fault = exceeded(account, delta) if request.subresource != "status" else ""
        if fault:
            raise refusal(request, fault)
        charges[name] = delta
    return charges


def exceeded(account: Account, delta: Usage) -> str:
    """Why a quota does not allow that much more; "" where it does."""
    hard = quota.parsed(account.quota.status.hard)
    used = account.used
    over = [n for n, amount in added({n: used[n] for n in delta if n in used}, delta).items() if n in hard and amount > hard[n]]
    if not over:
        return ""
    asked, taken, limit = ({n: amounts[n] for n in over if n in amounts} for amounts in (delta, used, hard))
    return (
        f"exceeded quota: {account.name}, requested: {quota.printed(asked)}, used: {quota.printed(taken)}, limited: {quota.printed(limit)}"
    )


def _view(request: AdmissionRequest, obj: Obj | None) -> Object | None:
    ref = request.resource.ref
    kind = _VIEWS.get((ref.group, ref.plural))
    return msgspec.convert(obj, kind) if kind is not None and obj is not None else None
