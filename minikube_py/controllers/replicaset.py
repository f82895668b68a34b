"""ReplicaSets and ReplicationControllers: as many pods as spec.replicas says, made from the template.

plan(): the set and its pods → how many to create, which to delete, the status. The controller applies it: creates in growing batches, so
that a fault costs one call, and counts its own writes at once, so that a slow watch never makes it over-create.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec

from minikube_py.control import Informer, Watch
from minikube_py.controllers.base import (
    Context,
    Controller,
    Failure,
    Fresh,
    Pace,
    change,
    controller_uid,
    delete_pod,
    in_batches,
    merge_status,
    namespace_is_ending,
    slow_start,
)
from minikube_py.controllers.claims import apply_claim, candidates, controller_index, plan_claim
from minikube_py.controllers.pods import (
    condition_json,
    condition_of,
    deletion_order,
    is_active,
    is_available,
    next_available,
    pod_body,
    with_condition,
    without_condition,
)
from minikube_py.meta.errors import NotFound
from minikube_py.meta.selectors import having, matcher, matches
from minikube_py.types.meta import controller_of
from minikube_py.types.pod import Pod, is_ready, is_terminal
from minikube_py.types.workload import ReplicaSet, ReplicaSetStatus, ReplicationController, template_labels

BURST = 500
"""The most pods that one look creates or deletes."""

S = TypeVar("S", ReplicaSet, ReplicationController)
AnySet = ReplicaSet | ReplicationController

_COUNTS = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")


class Plan(NamedTuple):
    """What to do: create so many, delete these."""

    create: int
    delete: tuple[Pod, ...]


def plan(replica_set: AnySet, pods: Sequence[Pod], related: Iterable[Pod], now: float) -> Plan:
    """Bring the active pods to spec.replicas, at most BURST at once. `related`: pods of all sets of the same owner, for the ranking."""
    if replica_set.metadata.deletionTimestamp is not None:
        return Plan(0, ())
    active = [pod for pod in pods if is_active(pod)]
    difference = len(active) - replica_set.spec.replicas
    if difference < 0:
        return Plan(min(-difference, BURST), ())
    if difference == 0:
        return Plan(0, ())
    return Plan(0, tuple(deletion_order(active, related, now)[: min(difference, BURST)]))


def status(replica_set: AnySet, pods: Sequence[Pod], failure: tuple[str, str] | None, now: float) -> ReplicaSetStatus:
    """The status that the pods make. `failure`: (reason, message) of what could not be created or deleted."""
    minimum = replica_set.spec.minReadySeconds
    active = [pod for pod in pods if is_active(pod)]
    ready = [pod for pod in active if is_ready(pod)]
    labelled = having(template_labels(replica_set.spec.template))
    conditions = replica_set.status.conditions
    if failure is not None:
        if condition_of(conditions, "ReplicaFailure") is None:
            conditions = with_condition(conditions, "ReplicaFailure", "True", failure[0], failure[1], now)
    else:
        conditions = without_condition(conditions, "ReplicaFailure")
    return ReplicaSetStatus(
        replicas=len(active),
        fullyLabeledReplicas=sum([labelled(pod.metadata.labels) for pod in active]),
        readyReplicas=len(ready),
        availableReplicas=sum([is_available(pod, minimum, now) for pod in ready]) if minimum else len(ready),
        terminatingReplicas=sum([pod.metadata.deletionTimestamp is not None and not is_terminal(pod) for pod in pods]),
        observedGeneration=replica_set.metadata.generation,
        conditions=conditions,
    )


def status_json(new: ReplicaSetStatus) -> dict[str, Any]:
    """The status as the API takes it; None for what is left out of the object, as upstream does with counts of zero."""
    body: dict[str, Any] = {"replicas": new.replicas, "observedGeneration": new.observedGeneration}
    body.update({name: getattr(new, name) or None for name in _COUNTS})
    body["terminatingReplicas"] = new.terminatingReplicas
    body["conditions"] = [condition_json(c) for c in new.conditions] or None
    return body


class _SetController(Controller, Generic[S]):
    """Drives every object of one of the two kinds."""

    kind: ClassVar[type[Any]]
    """The view: ReplicaSet or ReplicationController."""
    uncounted: ClassVar[frozenset[str]] = frozenset()
    """Counts that the kind's status does not have."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets: Informer[S] = context.informers.of(self.kind)
        self._sets.add_index("controller", lambda replica_set: (controller_uid(replica_set.metadata),))
        self._pods: Fresh[Pod] = Fresh(context.informers.of(Pod), {"controller": controller_index})
        self._pace = Pace(self.clock)

    def watches(self) -> Sequence[Watch]:
        return (Watch(self._sets), Watch(self._pods.informer, self._sets_of))

    def _sets_of(self, pod: Pod) -> Iterable[str]:
        ref = controller_of(pod.metadata)
        namespace = pod.metadata.namespace
        if ref is not None:
            if ref.kind == self.kind.resource.kind:
                yield f"{namespace}/{ref.name}"
            return
        for replica_set in self._sets.list(namespace):
            if matches(replica_set.label_selector, pod.metadata.labels):
                yield replica_set.key

    async def reconcile(self, key: str) -> float | None:
        replica_set = self._sets.get(key)
        if replica_set is None:
            return None
        if wait := self._pace.wait(key):
            return wait
        started = time.perf_counter()
        meta = replica_set.metadata
        found = candidates(self._pods, replica_set)
        claim = plan_claim(replica_set, replica_set.label_selector, found, eligible=lambda pod: not is_terminal(pod))
        pods = list(claim.held)
        if claim.adopt or claim.release:
            pods = list(await apply_claim(self.client, self._pods, replica_set, claim))
        todo = plan(replica_set, pods, (), self.clock.time())
        if todo.delete:
            todo = plan(replica_set, pods, self._related(replica_set, pods), self.clock.time())
        spent = time.perf_counter() - started
        failure = await self._apply(replica_set, todo)
        started = time.perf_counter()
        if todo.create or todo.delete:
            chosen = matcher(replica_set.label_selector)
            pods = [pod for pod in self._pods.by_index("controller", meta.uid) if chosen(pod.metadata.labels)]
        now = self.clock.time()
        await self._write_status(replica_set, status(replica_set, self._with_ending(meta.uid, pods), _reason(failure, todo), now))
        again = next_available(pods, replica_set.spec.minReadySeconds, now) if replica_set.spec.minReadySeconds else None
        self._pace.took(key, spent + time.perf_counter() - started, todo.create + len(todo.delete))
        if failure is not None and not namespace_is_ending(failure):
            raise failure
        if todo.create == BURST or len(todo.delete) == BURST:
            return 0.0
        return again

    def _with_ending(self, uid: str, pods: Sequence[Pod]) -> Sequence[Pod]:
        """The pods, and those that we asked to be deleted and that the informer still shows: they count as terminating."""
        return [*pods, *_also_ending(pods, self._pods.informer.by_index("controller", uid))]

    def _related(self, replica_set: S, pods: Sequence[Pod]) -> list[Pod]:
        owner = controller_uid(replica_set.metadata)
        if not owner:
            return list(pods)
        siblings = [s for s in self._sets.by_index("controller", owner) if s.metadata.namespace == replica_set.metadata.namespace]
        return [pod for sibling in siblings for pod in self._pods.by_index("controller", sibling.metadata.uid)]

    async def _apply(self, replica_set: S, todo: Plan) -> Failure | None:
        namespace = replica_set.metadata.namespace
        if todo.create:
            body = pod_body(replica_set, replica_set.spec.template)

            async def create() -> None:
                pod = self._pods.wrote(await self.client.create(Pod, body, namespace))
                self.events.record(replica_set, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

            _, failure = await slow_start(todo.create, create)
            if failure is not None and not namespace_is_ending(failure):
                self.events.record(replica_set, "Warning", "FailedCreate", f"Error creating: {failure}")
            return failure
        if todo.delete:
            failures = [
                f
                for f in await in_batches(todo.delete, lambda pod: delete_pod(self, replica_set, self._pods, pod, gone_at_once=True))
                if f is not None
            ]
            return failures[0] if failures else None
        return None

    async def _write_status(self, replica_set: S, new: ReplicaSetStatus) -> None:
        current = self._sets.get(replica_set.key) or replica_set
        if "terminatingReplicas" in self.uncounted:
            new = msgspec.structs.replace(new, terminatingReplicas=None)
        if current.metadata.uid != replica_set.metadata.uid or new == current.status:
            return
        try:
            await change(self.client, current, merge_status(status_json(new)), "status")
        except NotFound:
            return


class ReplicaSetController(_SetController[ReplicaSet]):
    """Drives every ReplicaSet."""

    name = "replicaset"
    identity = "replicaset-controller"
    kind = ReplicaSet


class ReplicationControllerController(_SetController[ReplicationController]):
    """Drives every ReplicationController."""

    name = "replicationcontroller"
    identity = "replication-controller"
    kind = ReplicationController
    uncounted = frozenset({"terminatingReplicas"})


def _also_ending(pods: Sequence[Pod], shown: Sequence[Pod]) -> list[Pod]:
    known = {pod.metadata.uid for pod in pods}
    return [pod for pod in shown if pod.metadata.uid not in known and pod.metadata.deletionTimestamp is not None]


def _reason(failure: Failure | None, todo: Plan) -> tuple[str, str] | None:
    if failure is None:
        return None
    return ("FailedCreate" if todo.create else "FailedDelete", str(failure))


__all__ = ["BURST", "Plan", "ReplicaSetController", "ReplicationControllerController", "plan", "status", "status_json"]
