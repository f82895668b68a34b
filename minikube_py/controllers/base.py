"""What every controller is made of: its identity, the shared informers, an event recorder, and a view of its own writes.

A controller module holds a pure plan function and a `Controller` that computes the plan from informers and applies it through its client.
What always holds: decisions are made on the informers' state plus the controller's own acknowledged writes (`Fresh`), so that a slow watch
never makes a controller do the same thing twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
import orjson

from minikube_py.aio import Clock, Health, SystemClock, cancel
from minikube_py.client import Client
from minikube_py.client.transport import TransportError
from minikube_py.control import ControlLoop, EventRecorder, Informer, Informers, Paced, Watch
from minikube_py.controllers.node_zones import Rates
from minikube_py.meta.errors import NotFound, StatusError, not_found
from minikube_py.pki.issue import KeyPair
from minikube_py.types.meta import Object, ObjectMeta, V, controller_of, timestamp
from minikube_py.types.pod import Pod

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

Failure = StatusError | TransportError

AT_ONCE = 48
"""Requests that a controller sends at once: enough for the log to commit them together, few enough not to hold the loop."""


class Options(msgspec.Struct, frozen=True):
    """What an administrator may set; periods in seconds. The names are kube-controller-manager's flags."""

    cluster_cidr: str = "10.42.0.0/16"
    node_cidr_mask_size: int = 24
    service_cidr: str = ""
    """Never handed to nodes, where it lies inside the cluster CIDR."""
    allocate_node_cidrs: bool = True
    node_monitor_period: float = 5.0
    node_monitor_grace_period: float = 50.0
    node_startup_grace_period: float = 60.0
    eviction_rates: Rates = msgspec.field(default_factory=Rates)
    terminated_pod_gc_threshold: int = 12500
    pod_gc_period: float = 20.0
    pod_gc_quarantine: float = 40.0
    max_endpoints_per_slice: int = 100
    discovery_period: float = 30.0
    root_ca: str = ""
    """The PEM bundle that every namespace gets as kube-root-ca.crt."""
    authorities: Mapping[str, KeyPair] = msgspec.field(default_factory=dict)
    """By signer name: who signs certificate signing requests."""
    reserved_names: frozenset[str] = frozenset()
    """Names and addresses of the API server: no node gets a serving certificate for them."""


class Context(msgspec.Struct, frozen=True):
    """What controllers are built from. `client_for(name)` acts as system:serviceaccount:kube-system:<name>."""

    client_for: Callable[[str], Client]
    informers: Informers
    options: Options = msgspec.field(default_factory=Options)
    clock: Clock = msgspec.field(default_factory=SystemClock)


class Controller:
    """One reconciler with its own identity. Subclasses fulfil control.Reconciler; `run` is its supervised component."""

    name: str = ""
    identity: str = ""
    """Its service account in kube-system."""
    component: str = ""
    """As what it speaks in events, where upstream's does not speak under its service account's name."""
    workers = 5

    def __init__(self, context: Context) -> None:
        self.context = context
        self.options, self.clock, self.informers = context.options, context.clock, context.informers
        self.client = context.client_for(self.identity)
        self.events = EventRecorder(self.client, self.component or self.identity, clock=self.clock)

    def watches(self) -> Sequence[Watch]:
        """What it follows."""
        return ()

    async def reconcile(self, key: str) -> float | None:
        """Bring one key from what is to what should be."""
        raise NotImplementedError

    async def run(self, health: Health) -> None:
        """Follow and reconcile until cancelled."""
        recorder = asyncio.create_task(self.events.run(), name=f"{self.name} events")
        try:
            await ControlLoop(self, self.workers, turns=self.informers.turns).run(health)
        finally:
            await cancel(recorder)


class Fresh(Generic[V]):
    """An informer's views overlaid with this process's own acknowledged writes, until the informer has reached their revision."""

    def __init__(self, informer: Informer[V], indexes: dict[str, Callable[[V], Iterable[str]]] | None = None) -> None:
        self.informer = informer
        self._indexes = indexes or {}
        for name, index in self._indexes.items():
            informer.add_index(name, index)
        self._written: dict[str, V] = {}
        self._deleted: dict[str, V] = {}
        self._ending: dict[str, tuple[str, str]] = {}

    def wrote(self, view: V) -> V:
        """Remember what a create, update or patch answered."""
        if int(view.metadata.resourceVersion or 0) > self.informer.revision:
            self._written[view.key] = view
        return view

    def deleted(self, view: V) -> None:
        """Remember an acknowledged delete request: the object counts as gone at once, even while it ends gracefully."""
        self._written.pop(view.key, None)
        self._deleted[view.key] = view

    def ending(self, view: V, stamp: str) -> None:
        """Remember an acknowledged delete request of what ends gracefully: it is shown as being deleted until the informer shows that."""
        if view.metadata.deletionTimestamp is None:
            self._ending[view.key] = (view.metadata.uid, stamp)

    def get(self, key: str) -> V | None:
        """One object, or None where it is absent or deleted by us."""
        self._settle()
        written = self._written.get(key)
        found = written if written is not None else self._alive(self.informer.get(key))
        return found if found is None else self._as_ending(found)

    def list(self, namespace: str | None = None) -> Sequence[V]:
        """All objects, or those of a namespace."""
        return self._overlay(self.informer.views(namespace), lambda view: namespace is None or view.metadata.namespace == namespace)

    def by_index(self, name: str, value: str) -> Sequence[V]:
        """The objects that an index files under a value."""
        index = self._indexes[name]
        return self._overlay(self.informer.filed(name, value), lambda view: value in index(view))

    def _overlay(self, views: Mapping[str, V], fits: Callable[[V], bool]) -> Sequence[V]:
        self._settle()
        if not self._written and not self._deleted and not self._ending:
            return list(views.values())
        found = dict(views)
        for key, gone in self._deleted.items():
            shown = found.get(key)
            if shown is not None and shown.metadata.uid == gone.metadata.uid:
                del found[key]
        for key, view in self._written.items():
            if fits(view):
                found[key] = view
            else:
                found.pop(key, None)
        for key in self._ending:
            if (shown := found.get(key)) is not None:
                found[key] = self._as_ending(shown)
        return list(found.values())

    def _as_ending(self, view: V) -> V:
        uid, stamp = self._ending.get(view.key, ("", ""))
        if uid != view.metadata.uid or view.metadata.deletionTimestamp is not None:
            return view
        return msgspec.structs.replace(view, metadata=msgspec.structs.replace(view.metadata, deletionTimestamp=stamp))

    def _alive(self, view: V | None) -> V | None:
        if view is None:
            return None
        gone = self._deleted.get(view.key)
        return None if gone is not None and gone.metadata.uid == view.metadata.uid else view

    def _settle(self) -> None:
        if self._written:
            seen = self.informer.revision
            for key in [k for k, view in self._written.items() if int(view.metadata.resourceVersion) <= seen]:
                del self._written[key]
        if self._deleted:
            for key, gone in list(self._deleted.items()):
                if self._ended(key, gone.metadata.uid):
                    del self._deleted[key]
        if self._ending:
            for key, (uid, _) in list(self._ending.items()):
                if key not in self._written and self._ended(key, uid):
                    del self._ending[key]

    def _ended(self, key: str, uid: str) -> bool:
        current = self.informer.get(key)
        return current is None or current.metadata.uid != uid or current.metadata.deletionTimestamp is not None


class Pace:
    """Spreads repeated looks at a large object: after a look that took a while, the next one waits a multiple of it.

    A look that led to about as much work as it was itself is not held up: the burst of creates after the present one is due at once.
    Level-triggered reconciling makes this safe: a later look sees everything that an earlier one would have seen.
    """

    def __init__(self, clock: Clock, factor: float = 10.0, free: float = 0.002, free_by_write: float = 0.001) -> None:
        self._clock, self._factor, self._free, self._free_by_write = clock, factor, free, free_by_write
        self._not_before: dict[str, float] = {}

    def wait(self, key: str) -> Paced:
        """Seconds until the key may be looked at again; 0 for now."""
        until = self._not_before.get(key)
        if until is None:
            return Paced(0)
        remaining = until - self._clock.monotonic()
        if remaining <= 0:
            del self._not_before[key]
            return Paced(0)
        return Paced(remaining)

    def took(self, key: str, seconds: float, writes: int = 0) -> None:
        """Note what a look at the key cost, and how many writes it led to."""
        if seconds > self._free + writes * self._free_by_write:
            self._not_before[key] = self._clock.monotonic() + min(seconds * self._factor, 1.0)


async def change(client: Client, view: V, edit: Callable[[dict[str, Any]], None], subresource: str = "") -> V:
    """Read the live object whole, edit it in place, put it back (a compare-and-swap: Conflict where somebody was faster).

    For what upstream's roles allow a controller to update but not to patch. Nothing is written where the edit changes nothing.
    Raises NotFound where the object, by its uid, has gone.
    """
    kind, meta = type(view), view.metadata
    path = kind.resource.path(meta.namespace or None, meta.name)
    body = await client.request("GET", path)
    live: dict[str, Any] = orjson.loads(body)
    if live["metadata"].get("uid") != meta.uid:
        raise not_found(kind.resource.plural, meta.name, kind.resource.group)
    edit(live)
    if live == orjson.loads(body):
        return msgspec.json.decode(body, type=kind)
    return await client.update(kind, live, meta.name, meta.namespace or None, subresource=subresource)


def merge_status(status: Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
    """An edit for `change`: sets fields of the status; those given as None are taken out."""

    def edit(live: dict[str, Any]) -> None:
        current = live.setdefault("status", {})
        for name, value in status.items():
            if value is None:
                current.pop(name, None)
            else:
                current[name] = value

    return edit


async def in_batches(items: Sequence[T], act: Callable[[T], Awaitable[R]]) -> list[R]:
    """Call `act` for every item, AT_ONCE at a time."""
    results: list[R] = []
    for at in range(0, len(items), AT_ONCE):
        results += await asyncio.gather(*(act(item) for item in items[at : at + AT_ONCE]))
    return results


async def slow_start(count: int, act: Callable[[], Awaitable[Any]]) -> tuple[int, Failure | None]:
    """Call `act` up to `count` times: in batches of 1, 2, 4, …, then AT_ONCE at any time; no further call after a failure.

    Gives the number of successes and the first failure. A fault that every call meets thus costs one call, not `count`.
    """
    left, succeeded = count, 0
    failure: Failure | None = None

    async def one() -> None:
        nonlocal succeeded, failure
        try:
            await act()
            succeeded += 1
        except (StatusError, TransportError) as error:
            failure = failure or error

    async def worker() -> None:
        nonlocal left
        while left > 0 and failure is None:
            left -= 1
            await one()

    batch = 1
    while left > 0 and failure is None:
        if batch >= AT_ONCE:
            await asyncio.gather(*(worker() for _ in range(min(AT_ONCE, left))))
        else:
            size = min(batch, left)
            left -= size
            await asyncio.gather(*(one() for _ in range(size)))
            batch *= 2
    return succeeded, failure


async def delete_pod(
    controller: Controller, owner: Object, pods: Fresh[Pod], pod: Pod, *, gone_at_once: bool = False
) -> StatusError | None:
    """Ask for the end of an owner's pod, and say so on the owner; what went wrong. `gone_at_once`: one that still ends counts no more."""
    meta = pod.metadata
    try:
        await controller.client.delete(Pod, meta.name, meta.namespace, uid=meta.uid)
    except NotFound:
        pods.deleted(pod)
        return None
    except StatusError as error:
        controller.events.record(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")
        return error
    if gone_at_once:
        pods.deleted(pod)
    else:
        pods.ending(pod, timestamp(controller.clock.time()))
    controller.events.record(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name}")
    return None


def namespace_is_ending(error: Failure) -> bool:
    """Whether a create failed because its namespace is being deleted: nothing to retry."""
    if not isinstance(error, StatusError):
        return False
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)


def controller_uid(meta: ObjectMeta) -> str:
    """The uid of the controlling owner, or ""."""
    ref = controller_of(meta)
    return ref.uid if ref is not None else ""
