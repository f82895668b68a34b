"""DaemonSets: one pod on every node that the template fits, exchanged by RollingUpdate or OnDelete.

The decisions are in daemons.py; the templates that a set has had are ControllerRevisions (history.py). Here they are followed and applied:
first what belongs where, then, where the update strategy says so, one step of an update; then old revisions go and the status is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from minikube_py.aio import Backoff
from minikube_py.client import Patch
from minikube_py.control import Watch
from minikube_py.controllers import daemons, history
from minikube_py.controllers.base import (
    Context,
    Controller,
    Failure,
    Fresh,
    Pace,
    change,
    delete_pod,
    in_batches,
    merge_status,
    namespace_is_ending,
    slow_start,
)
from minikube_py.controllers.claims import apply_claim, candidates, controller_index, plan_claim
from minikube_py.controllers.history import HASH_LABEL
from minikube_py.controllers.pods import next_available
from minikube_py.meta.errors import NotFound, StatusError
from minikube_py.meta.selectors import matches
from minikube_py.types.core import Node
from minikube_py.types.meta import controller_of
from minikube_py.types.pod import Pod
from minikube_py.types.workload import ControllerRevision, DaemonSet

_FIRST_BACKOFF, _LONGEST_BACKOFF = 1.0, 900.0


class DaemonSetController(Controller):
    """Drives every DaemonSet."""

    name = "daemonset"
    identity = "daemon-set-controller"
    component = "daemonset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets: Fresh[DaemonSet] = Fresh(context.informers.of(DaemonSet))
        self._nodes = context.informers.of(Node)
        self._pods: Fresh[Pod] = Fresh(context.informers.of(Pod), {"controller": controller_index})
        self._revisions: Fresh[ControllerRevision] = Fresh(context.informers.of(ControllerRevision), {"controller": controller_index})
        self._pace = Pace(self.clock)
        self._looks: dict[str, object] = {}
        self._failures: dict[tuple[str, str], tuple[Backoff, float]] = {}

    def watches(self) -> Sequence[Watch]:
        return (
            Watch(self._sets.informer),
            Watch(self._pods.informer, self._sets_of),
            Watch(self._nodes, self._concerned),
            # revisions are only read: nothing has to be done because one has changed
            Watch(self._revisions.informer, lambda revision: ()),
        )

    def _sets_of(self, pod: Pod) -> Iterable[str]:
        ref = controller_of(pod.metadata)
        namespace = pod.metadata.namespace
        if ref is not None:
            if ref.kind == "DaemonSet":
                yield f"{namespace}/{ref.name}"
            return
        for found in self._sets.informer.list(namespace):
            if matches(found.spec.selector, pod.metadata.labels):
                yield found.key

    def _concerned(self, node: Node) -> Iterable[str]:
        """Every set, where a node came, went, or changed in what decides whether daemons belong there; heartbeats are not."""
        name = node.metadata.name
        if self._nodes.get(name) is None:
            if self._looks.pop(name, None) is None:
                return
        else:
            look = (dict(node.metadata.labels), [(t.key, t.value, t.effect) for t in node.spec.taints])
            if self._looks.get(name) == look:
                return
            self._looks[name] = look
        for found in self._sets.informer.list():
            yield found.key

    async def reconcile(self, key: str) -> float | None:
        found = self._sets.get(key)
        if found is None:
            for known in [k for k in self._failures if k[0] == key]:
                del self._failures[known]
            return None
        selector = found.spec.selector
        if not selector.matchLabels and not selector.matchExpressions:
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self.events.record(found, "Warning", "SelectingAll", message)
            return None
        if found.metadata.deletionTimestamp is not None:
            return None
        if wait := self._pace.wait(key):
            return wait
        revisions = await apply_claim(self.client, self._revisions, found, plan_claim(found, selector, candidates(self._revisions, found)))
        collisions = found.status.collisionCount
        try:
            current = await history.record(self.client, self._revisions, found, found.spec.template, revisions, collisions, HASH_LABEL)
        except history.Collision:
            await self._write_status(found, {"collisionCount": collisions + 1})
            return 0.0
        except StatusError as error:
            if namespace_is_ending(error):
                return None
            raise
        digest = current.metadata.labels.get(HASH_LABEL, "")
        revisions = [r for r in self._revisions.by_index("controller", found.metadata.uid) if r.metadata.deletionTimestamp is None]
        pods = await apply_claim(self.client, self._pods, found, plan_claim(found, selector, candidates(self._pods, found)))
        await self._merge_equal(found, current, revisions, pods)
        started = time.perf_counter()
        nodes = self._nodes.list()
        now = self.clock.time()
        todo = daemons.plan(found, nodes, pods, digest, self._waits(key), now)
        self._pace.took(key, 3 * (time.perf_counter() - started), len(todo.create) + len(todo.delete))
        for pod in todo.ended:
            self._note_ended(key, found, pod)
        failure = await self._apply(found, todo, digest)
        if failure is None and found.spec.updateStrategy.type == "RollingUpdate":
            pods = self._mine(found)
            failure = await self._apply(found, daemons.rolling(found, nodes, pods, digest, now), digest)
        pods = self._mine(found)
        await self._clean_up(found, current, revisions, pods)
        now = self.clock.time()
        new = daemons.status(found, nodes, pods, digest, collisions, now)
        if new != found.status:
            await self._write_status(found, daemons.status_json(new))
        if failure is not None and not namespace_is_ending(failure):
            raise failure
        if len(todo.create) == daemons.BURST or len(todo.delete) == daemons.BURST:
            return 0.0
        waits = [todo.again] if todo.again is not None else []
        minimum = found.spec.minReadySeconds
        if minimum and (next_ := next_available(pods, minimum, now)) is not None:
            waits.append(next_)
        return min(waits, default=None)

    def _mine(self, found: DaemonSet) -> list[Pod]:
        uid = found.metadata.uid
        return [pod for pod in self._pods.by_index("controller", uid) if matches(found.spec.selector, pod.metadata.labels)]

    def _waits(self, key: str) -> dict[str, float]:
        """By node, how long a failed daemon there still has to be left alone."""
        now = self.clock.monotonic()
        return {node: until - now for (owner, node), (_, until) in self._failures.items() if owner == key and until > now}

    def _note_ended(self, key: str, found: DaemonSet, pod: Pod) -> None:
        node = daemons.target_node(pod)
        if pod.status.phase == "Failed":
            backoff, until = self._failures.get((key, node), (Backoff(first=_FIRST_BACKOFF, limit=_LONGEST_BACKOFF), 0.0))
            now = self.clock.monotonic()
            if until and now - until > 2 * _LONGEST_BACKOFF:
                backoff.reset()
            self._failures[key, node] = (backoff, now + backoff.next())
            message = f"Found failed daemon pod {pod.key} on node {node}, will try to kill it"
            self.events.record(found, "Warning", "FailedDaemonPod", message)
        else:
            message = f"Found succeeded daemon pod {pod.key} on node {node}, will try to delete it"
            self.events.record(found, "Normal", "SucceededDaemonPod", message)

    async def _apply(self, found: DaemonSet, todo: daemons.Plan, digest: str) -> Failure | None:
        namespace = found.metadata.namespace
        nodes = list(todo.create)

        async def create() -> None:
            pod = self._pods.wrote(await self.client.create(Pod, daemons.pod_body(found, nodes.pop(0), digest), namespace))
            self.events.record(found, "Normal", "SuccessfulCreate", f"Created pod: {pod.metadata.name}")

        failure: Failure | None = None
        if nodes:
            _, failure = await slow_start(len(nodes), create)
            if failure is not None and not namespace_is_ending(failure):
                self.events.record(found, "Warning", "FailedCreate", f"Error creating: {failure}")
        failures = [f for f in await in_batches(todo.delete, lambda pod: delete_pod(self, found, self._pods, pod)) if f is not None]
        return failure or (failures[0] if failures else None)

    async def _merge_equal(
        self, found: DaemonSet, keep: ControllerRevision, revisions: Sequence[ControllerRevision], pods: Sequence[Pod]
    ) -> None:
        """Several revisions of the present template become one, and their pods its."""
        there = history.present(found.spec.template, revisions)
        doubles = [r for r in there.equal if r.metadata.uid != keep.metadata.uid]
        if not doubles:
            return
        digest = keep.metadata.labels.get(HASH_LABEL, "")
        digests = {r.metadata.labels.get(HASH_LABEL, "") for r in doubles} - {digest}
        for pod in pods:
            if pod.metadata.labels.get(HASH_LABEL, "") in digests:
                patch = {"metadata": {"uid": pod.metadata.uid, "labels": {HASH_LABEL: digest}}}
                self._pods.wrote(await self.client.patch(Pod, pod.metadata.name, patch, pod.metadata.namespace, kind=Patch.STRATEGIC))
        await history.remove(self.client, self._revisions, doubles)

    async def _clean_up(
        self, found: DaemonSet, current: ControllerRevision, revisions: Sequence[ControllerRevision], pods: Sequence[Pod]
    ) -> None:
        used = {pod.metadata.labels.get(HASH_LABEL, "") for pod in pods}
        live = {r.metadata.name for r in revisions if r.metadata.labels.get(HASH_LABEL, "") in used} | {current.metadata.name}
        await history.remove(self.client, self._revisions, history.surplus(revisions, live, found.spec.revisionHistoryLimit))

    async def _write_status(self, found: DaemonSet, status: dict[str, object]) -> None:
        try:
            self._sets.wrote(await change(self.client, found, merge_status(status), "status"))
        except NotFound:
            return


__all__ = ["DaemonSetController"]
