"""PodDisruptionBudgets: how many pods may be taken away now, told in the status that the eviction API goes by.

plan(): a budget, its pods, the scale of what controls them, the time → the status. A pod whose eviction was granted counts as gone until it
is, or for two minutes. Where the scale cannot be told nothing may be disrupted: better no eviction than one too many.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from minikube_py.client import Patch
from minikube_py.control import Watch
from minikube_py.controllers.base import Context, Controller, Fresh, Pace, change, merge_status
from minikube_py.controllers.pods import condition_of
from minikube_py.meta.errors import Conflict, NotFound
from minikube_py.meta.selectors import go_string, matcher, matches
from minikube_py.types.meta import Condition, LabelSelector, OwnerReference, controller_of, parse_timestamp, split_key, timestamp
from minikube_py.types.pod import IntOrString, Pod, is_ready, is_terminal
from minikube_py.types.policy import PodDisruptionBudget, PodDisruptionBudgetStatus
from minikube_py.types.workload import Deployment, ReplicaSet, ReplicationController, StatefulSet

GRANTED = 120.0
"""Seconds for which a pod whose eviction was granted counts as gone; and for which a pod stays marked as a target of disruption."""
_ALLOWED = "DisruptionAllowed"
_POD = "pod:"
_UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: %s) were found to be unmanaged. As a result, the status of the PDB cannot be "
    'calculated correctly, which may result in undefined behavior. To account for these pods please set ".spec.minAvailable" field of '
    "the PDB to an integer value."
)

Scalable = ReplicaSet | Deployment | ReplicationController | StatefulSet


class NoScale(Exception):
    """A pod's controller does not tell how many pods it wants."""


class Plan(NamedTuple):
    """The status, the pods whose eviction was granted and that are still there, and seconds until it has to be judged again."""

    status: PodDisruptionBudgetStatus
    overdue: tuple[Pod, ...]
    again: float | None


def plan(budget: PodDisruptionBudget, pods: Sequence[Pod], expected: int, now: float) -> Plan:
    """Judge a budget. `expected`: how many pods there should be (`expects_scale` says by which count)."""
    granted: dict[str, str] = {}
    overdue: list[Pod] = []
    again: float | None = None
    healthy = 0
    for pod in pods:
        if pod.metadata.deletionTimestamp is not None:
            continue
        stamp = budget.status.disruptedPods.get(pod.metadata.name)
        if stamp is not None:
            left = parse_timestamp(stamp) + GRANTED - now
            if left > 0:
                granted[pod.metadata.name] = stamp
                again = left if again is None else min(again, left)
                continue
            overdue.append(pod)
        healthy += is_ready(pod)
    desired = wanted(budget, expected)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    status = PodDisruptionBudgetStatus(
        observedGeneration=budget.metadata.generation,
        disruptedPods=granted,
        disruptionsAllowed=allowed,
        currentHealthy=healthy,
        desiredHealthy=desired,
        expectedPods=expected,
        conditions=_conditions(budget, "SufficientPods" if allowed else "InsufficientPods", "", now, budget.metadata.generation),
    )
    return Plan(status, tuple(overdue), again)


def expects_scale(budget: PodDisruptionBudget) -> bool:
    """Whether the controllers' scale is what is expected, and not the number of pods that there are."""
    return budget.spec.maxUnavailable is not None or isinstance(budget.spec.minAvailable, str)


def wanted(budget: PodDisruptionBudget, expected: int) -> int:
    """How many pods have to be healthy."""
    if budget.spec.maxUnavailable is not None:
        return max(0, expected - _scaled(budget.spec.maxUnavailable, expected))
    return _scaled(budget.spec.minAvailable, expected) if budget.spec.minAvailable is not None else 0


def _scaled(value: IntOrString, total: int) -> int:
    if isinstance(value, int):
        return value
    return math.ceil(int(value[:-1]) * total / 100) if value.endswith("%") else int(value)


def failed(budget: PodDisruptionBudget, message: str, now: float) -> PodDisruptionBudgetStatus:
    """The status where the budget could not be judged: nothing may be disrupted."""
    conditions = _conditions(budget, "SyncFailed", message, now, budget.status.observedGeneration)
    return msgspec.structs.replace(budget.status, disruptionsAllowed=0, conditions=conditions)


def _conditions(budget: PodDisruptionBudget, reason: str, message: str, now: float, generation: int) -> tuple[Condition, ...]:
    status = "True" if reason == "SufficientPods" else "False"
    current = condition_of(budget.status.conditions, _ALLOWED)
    since = current.lastTransitionTime if current is not None and current.status == status else None
    new = Condition(
        type=_ALLOWED,
        status=status,
        reason=reason,
        message=message,
        lastTransitionTime=since or timestamp(now),
        observedGeneration=generation,
    )
    if current is None:
        return (*budget.status.conditions, new)
    return tuple(new if c.type == _ALLOWED else c for c in budget.status.conditions)


def _printed(selector: LabelSelector | None) -> str:
    if selector is None:
        return "nil"
    return go_string(selector.matchLabels, ((e.key, e.operator, e.values) for e in selector.matchExpressions))


def status_json(new: PodDisruptionBudgetStatus) -> dict[str, Any]:
    """The status as the API takes it."""
    names = ("observedGeneration", "disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    body: dict[str, Any] = {name: getattr(new, name) for name in names}
    body["disruptedPods"] = dict(new.disruptedPods) or None
    body["conditions"] = [
        {name: getattr(c, name) for name in ("type", "status", "reason", "message", "lastTransitionTime", "observedGeneration")}
        for c in new.conditions
    ]
    return body


def stale_after(pod: Pod, now: float) -> float | None:
    """Seconds until a pod that was marked as a target of disruption, and is not being deleted, is told that it is none after all."""
    if pod.metadata.deletionTimestamp is not None or is_terminal(pod):
        return None
    marked = condition_of(pod.status.conditions, "DisruptionTarget")
    if marked is None or marked.status != "True" or not marked.lastTransitionTime:
        return None
    return parse_timestamp(marked.lastTransitionTime) + GRANTED - now


class DisruptionController(Controller):
    """Judges every budget."""

    name = "disruption"
    identity = "disruption-controller"
    component = "controllermanager"
    workers = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._budgets: Fresh[PodDisruptionBudget] = Fresh(context.informers.of(PodDisruptionBudget))
        self._pods = context.informers.of(Pod)
        views: Sequence[type[Scalable]] = (ReplicaSet, Deployment, ReplicationController, StatefulSet)
        self._scalable = {(view.resource.group, view.resource.kind): context.informers.of(view) for view in views}
        self._pace = Pace(self.clock)

    def watches(self) -> Sequence[Watch]:
        # what controls the pods is only asked for its scale: its pods' changes bring the look
        quiet = [Watch(informer, lambda obj: ()) for informer in self._scalable.values()]
        return (Watch(self._budgets.informer), Watch(self._pods, self._budgets_of), *quiet)

    def _budgets_of(self, pod: Pod) -> Iterable[str]:
        for budget in self._budgets.informer.list(pod.metadata.namespace):
            if matches(budget.spec.selector, pod.metadata.labels):
                yield budget.key
        if stale_after(pod, 0.0) is not None:
            yield f"{pod.metadata.namespace}/{_POD}{pod.metadata.name}"

    async def reconcile(self, key: str) -> float | None:
        namespace, name = split_key(key)
        if name.startswith(_POD):
            return await self._clear(f"{namespace}/{name.removeprefix(_POD)}")
        budget = self._budgets.get(key)
        if budget is None or budget.metadata.deletionTimestamp is not None:
            return None
        if wait := self._pace.wait(key):
            return wait
        started = self.clock.monotonic()
        chosen = matcher(budget.spec.selector)
        pods = [pod for pod in self._pods.list(namespace) if chosen(pod.metadata.labels)]
        if not pods:
            self.events.record(budget, "Normal", "NoPods", "No matching pods found")
        self._tell_of_rivals(budget, pods)
        now = self.clock.time()
        again: float | None = None
        try:
            expected = await self._expected(budget, pods)
        except NoScale as error:
            message = f"Failed to calculate the number of expected pods: {error}"
            self.events.record(budget, "Warning", "CalculateExpectedPodCountFailed", message)
            status = failed(budget, str(error), now)
        else:
            judged = plan(budget, pods, expected, now)
            status, again = judged.status, judged.again
            for pod in judged.overdue:
                message = f"Pod was expected by PDB {budget.key} to be deleted but it wasn't"
                self.events.record(pod, "Warning", "NotDeleted", message)
        self._pace.took(key, self.clock.monotonic() - started)
        if status != budget.status:
            await self._write(budget, status)
        return again

    def _tell_of_rivals(self, budget: PodDisruptionBudget, pods: Iterable[Pod]) -> None:
        """Tell of pods that other budgets are about too (they are not evicted at all); the first budget by name does."""
        others = [b for b in self._budgets.informer.list(budget.metadata.namespace) if b.metadata.uid != budget.metadata.uid]
        for pod in pods if others else ():
            rivals = [b.metadata.name for b in others if matches(b.spec.selector, pod.metadata.labels)]
            if rivals and min(rivals) > budget.metadata.name:
                named = f'"{pod.metadata.namespace}"/"{pod.metadata.name}"'
                message = f'Pod {named} matches multiple PodDisruptionBudgets.  Chose "{budget.metadata.name}" arbitrarily.'
                self.events.record(pod, "Warning", "MultiplePodDisruptionBudgets", message)

    async def _expected(self, budget: PodDisruptionBudget, pods: Sequence[Pod]) -> int:
        """How many pods there should be. Raises NoScale."""
        if not expects_scale(budget):
            return len(pods)
        expected = await self._scale(pods)
        if any(controller_of(pod.metadata) is None for pod in pods):
            self.events.record(budget, "Warning", "UnmanagedPods", _UNMANAGED % _printed(budget.spec.selector))
        return expected

    async def _write(self, budget: PodDisruptionBudget, status: PodDisruptionBudgetStatus) -> None:
        """A compare-and-swap against what was judged: an eviction that was granted meanwhile must not be forgotten."""

        def edit(live: dict[str, Any]) -> None:
            if live["metadata"]["resourceVersion"] != budget.metadata.resourceVersion:
                raise Conflict(f"the budget {budget.key} has been changed since it was read")
            merge_status(status_json(status))(live)

        try:
            self._budgets.wrote(await change(self.client, budget, edit, "status"))
        except NotFound:
            return

    async def _scale(self, pods: Iterable[Pod]) -> int:
        """How many pods those that control these want in all; pods that nobody controls do not count. Raises NoScale."""
        scales: dict[str, int] = {}
        asked: set[str] = set()
        for pod in pods:
            ref = controller_of(pod.metadata)
            if ref is not None and ref.uid not in asked:
                asked.add(ref.uid)
                found = await self._scale_of(pod.metadata.namespace, ref)
                if found is None:
                    raise NoScale(f'found no controllers for pod "{pod.metadata.name}"')
                scales[found.metadata.uid] = int(found.spec.replicas)
        return sum(scales.values())

    async def _scale_of(self, namespace: str, ref: OwnerReference) -> Scalable | None:
        """Who says how many there are to be: the Deployment above a ReplicaSet, where it is there; None where nobody is. Raises NoScale."""
        group = ref.apiVersion.rpartition("/")[0]
        informer = self._scalable.get((group, ref.kind))
        if informer is None:
            raise NoScale(f"{ref.kind.lower()}s{'.' if group else ''}{group} does not implement the scale subresource")
        found = informer.get(f"{namespace}/{ref.name}")
        if found is None or found.metadata.uid != ref.uid:
            # the informer may be late
            with contextlib.suppress(NotFound):
                found = await self.client.get(informer.view, ref.name, namespace)
        if found is None or found.metadata.uid != ref.uid:
            return None
        if isinstance(found, ReplicaSet):
            above = controller_of(found.metadata)
            if above is not None and above.kind == "Deployment":
                return await self._scale_of(namespace, above) or found
        return found

    async def _clear(self, key: str) -> float | None:
        """Take a mark off a pod that was to be disrupted and was not."""
        pod = self._pods.get(key)
        left = stale_after(pod, self.clock.time()) if pod is not None else None
        if pod is None or left is None:
            return None
        if left > 0:
            return left
        stamp = timestamp(self.clock.time())
        condition = {"type": "DisruptionTarget", "status": "False", "lastTransitionTime": stamp}
        patch = {"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}}
        try:
            await self.client.patch(Pod, pod.metadata.name, patch, pod.metadata.namespace, kind=Patch.STRATEGIC, subresource="status")
        except (NotFound, Conflict):
            return None
        return None


__all__ = ["DisruptionController", "Plan", "plan"]
