"""StatefulSets: pods with names, numbers and claims that last, made and updated in order.

The decisions are in stateful.py; the templates that a set has had are ControllerRevisions (history.py). Here they are followed and applied.
What always holds: a pod is made only after its claims, and never while an earlier pod of its name, or its claim, is still ending.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from minikube_py.control import Watch
from minikube_py.controllers import history, stateful
from minikube_py.controllers.base import Context, Controller, Fresh, change, in_batches, merge_status, namespace_is_ending
from minikube_py.controllers.claims import apply_claim, candidates, controller_index, plan_claim
from minikube_py.controllers.history import NAMED_HASH_LABEL
from minikube_py.controllers.pods import next_available
from minikube_py.meta.errors import AlreadyExists, NotFound, StatusError
from minikube_py.meta.selectors import matches
from minikube_py.types.core import PersistentVolumeClaim
from minikube_py.types.meta import controller_of, timestamp
from minikube_py.types.pod import Pod, is_terminal
from minikube_py.types.workload import ControllerRevision, StatefulSet

_CLAIM_WAIT = 1.0
"""Seconds until a claim that is ending is looked at again."""


class StatefulSetController(Controller):
    """Drives every StatefulSet."""

    name = "statefulset"
    identity = "statefulset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets: Fresh[StatefulSet] = Fresh(context.informers.of(StatefulSet))
        self._pods: Fresh[Pod] = Fresh(context.informers.of(Pod), {"controller": controller_index})
        self._claims: Fresh[PersistentVolumeClaim] = Fresh(context.informers.of(PersistentVolumeClaim))
        self._revisions: Fresh[ControllerRevision] = Fresh(context.informers.of(ControllerRevision), {"controller": controller_index})

    def watches(self) -> Sequence[Watch]:
        return (
            Watch(self._sets.informer),
            Watch(self._pods.informer, self._sets_of),
            # claims and revisions are only read: nothing has to be done because one has changed
            Watch(self._claims.informer, lambda claim: ()),
            Watch(self._revisions.informer, lambda revision: ()),
        )

    def _sets_of(self, pod: Pod) -> Iterable[str]:
        ref = controller_of(pod.metadata)
        namespace = pod.metadata.namespace
        if ref is not None:
            if ref.kind == "StatefulSet":
                yield f"{namespace}/{ref.name}"
            return
        for found in self._sets.informer.list(namespace):
            if stateful.is_member(found, pod) and matches(found.spec.selector, pod.metadata.labels):
                yield found.key

    async def reconcile(self, key: str) -> float | None:
        found = self._sets.get(key)
        if found is None:
            return None
        selector = found.spec.selector
        revisions = await apply_claim(self.client, self._revisions, found, plan_claim(found, selector, candidates(self._revisions, found)))
        collisions = found.status.collisionCount
        try:
            update = await history.record(self.client, self._revisions, found, found.spec.template, revisions, collisions, NAMED_HASH_LABEL)
        except history.Collision:
            await self._write_status(found, {"collisionCount": collisions + 1})
            return 0.0
        except StatusError as error:
            if namespace_is_ending(error):
                return None
            raise
        revisions = [r for r in self._revisions.by_index("controller", found.metadata.uid) if r.metadata.deletionTimestamp is None]
        current = next((r for r in revisions if r.metadata.name == found.status.currentRevision), update)
        members = [pod for pod in candidates(self._pods, found) if stateful.is_member(found, pod)]
        pods = await apply_claim(self.client, self._pods, found, plan_claim(found, selector, members))
        todo = stateful.plan(found, update.metadata.name, pods, self.clock.time())
        failure: StatusError | None = None
        again: float | None = None
        try:
            again = await self._apply(found, todo, current, update)
        except StatusError as error:
            failure = error
        pods = self._mine(found)
        now = self.clock.time()
        new = stateful.status(found, pods, current.metadata.name, update.metadata.name, collisions, now)
        if new != found.status:
            await self._write_status(found, stateful.status_json(new))
        live = {current.metadata.name, update.metadata.name, *(stateful.revision_of(pod) for pod in pods)}
        await history.remove(self.client, self._revisions, history.surplus(revisions, live, found.spec.revisionHistoryLimit))
        if failure is not None and not namespace_is_ending(failure):
            raise failure
        if again is None and found.spec.minReadySeconds:
            again = next_available(pods, found.spec.minReadySeconds, now)
        return again

    def _mine(self, found: StatefulSet) -> list[Pod]:
        mine = self._pods.by_index("controller", found.metadata.uid)
        return [p for p in mine if stateful.is_member(found, p) and matches(found.spec.selector, p.metadata.labels)]

    async def _apply(
        self, found: StatefulSet, todo: stateful.Plan, current: ControllerRevision, update: ControllerRevision
    ) -> float | None:
        again: float | None = None

        async def create(ordinal: int) -> StatusError | None:
            nonlocal again
            try:
                if await self._ensure_claims(found, ordinal):
                    await self._create(found, ordinal, current if stateful.takes_current(found, ordinal) else update)
                else:
                    again = _CLAIM_WAIT
            except StatusError as error:
                return error
            return None

        # several at once only where the set is Parallel: the plan has one otherwise
        _raise_first(await in_batches(todo.create, create))
        for pod in todo.claims:
            await self._ensure_claims(found, stateful.ordinal_of(pod))
        for pod in todo.rename:
            labels = stateful.identity(pod.metadata.name)
            patch = {"metadata": {"uid": pod.metadata.uid, "labels": labels}}
            self._pods.wrote(await self.client.patch(Pod, pod.metadata.name, patch, pod.metadata.namespace))
        if found.spec.volumeClaimTemplates and found.metadata.deletionTimestamp is None:
            for pod in self._mine(found):
                await self._own_claims(found, pod)
        _raise_first(await in_batches(todo.delete, lambda pod: self._delete(found, pod)))
        return again

    async def _ensure_claims(self, found: StatefulSet, ordinal: int) -> bool:
        """Create the claims that are missing. False where one is ending: the pod has to wait."""
        namespace, name = found.metadata.namespace, f"{found.metadata.name}-{ordinal}"
        pod = self._pods.get(f"{namespace}/{name}")
        for body in stateful.claim_bodies(found, ordinal):
            claim_name = body["metadata"]["name"]
            claim = self._claims.get(f"{namespace}/{claim_name}")
            if claim is not None:
                if pod is None and stateful.is_stale(claim, name):
                    return False
                continue
            try:
                self._claims.wrote(await self.client.create(PersistentVolumeClaim, body, namespace))
            except AlreadyExists:
                continue
            except StatusError as error:
                message = f"create Claim {claim_name} for Pod {name} in StatefulSet {found.metadata.name} failed error: {error.message}"
                self.events.record(found, "Warning", "FailedCreate", message)
                raise
            message = f"create Claim {claim_name} Pod {name} in StatefulSet {found.metadata.name} success"
            self.events.record(found, "Normal", "SuccessfulCreate", message)
        return True

    async def _own_claims(self, found: StatefulSet, pod: Pod) -> None:
        """Make claims belong to whom the retention policy says."""
        namespace = found.metadata.namespace
        for name in stateful.claim_names(found, stateful.ordinal_of(pod)):
            claim = self._claims.get(f"{namespace}/{name}")
            owners = stateful.claim_owners(found, claim, pod) if claim is not None else None
            if claim is None or owners is None:
                continue
            self._say_conflict(found, pod, claim)

            def edit(live: dict[str, Any], owners: stateful.ClaimOwners = owners) -> None:
                meta = live["metadata"]
                meta["ownerReferences"] = owners.applied(meta.get("ownerReferences") or ())

            self._claims.wrote(await change(self.client, claim, edit))

    async def _create(self, found: StatefulSet, ordinal: int, revision: ControllerRevision) -> None:
        namespace, name = found.metadata.namespace, f"{found.metadata.name}-{ordinal}"
        body = stateful.pod_body(found, history.template_of(revision), ordinal, revision.metadata.name)
        try:
            pod = self._pods.wrote(await self.client.create(Pod, body, namespace))
        except StatusError as error:
            # a name that is taken is tried again: the informer may be late, or the other pod go
            if not isinstance(error, AlreadyExists) and not namespace_is_ending(error):
                message = f"create Pod {name} in StatefulSet {found.metadata.name} failed error: {error.message}"
                self.events.record(found, "Warning", "FailedCreate", message)
            raise
        self.events.record(found, "Normal", "SuccessfulCreate", f"create Pod {name} in StatefulSet {found.metadata.name} successful")

        for claim in map(self._claims.get, (f"{namespace}/{claim_name}" for claim_name in stateful.claim_names(found, ordinal))):
            if claim is not None:
                self._say_conflict(found, pod, claim)

    def _say_conflict(self, found: StatefulSet, pod: Pod, claim: PersistentVolumeClaim) -> None:
        if stateful.has_other_controller(found, claim, pod):
            message = f"PersistentVolumeClaim {claim.metadata.name} has a conflicting OwnerReference that acts as a manging controller"
            self.events.record(found, "Warning", "ConflictingController", f"{message}, the retention policy is ignored for this claim")

    async def _delete(self, found: StatefulSet, pod: Pod) -> StatusError | None:
        meta = pod.metadata
        if is_terminal(pod):
            reason, how = ("RecreatingFailedPod", "failed") if pod.status.phase == "Failed" else ("RecreatingTerminatedPod", "terminated")
            message = f"StatefulSet {found.key} is recreating {how} Pod {meta.name}"
            self.events.record(found, "Warning" if how == "failed" else "Normal", reason, message)
        try:
            await self.client.delete(Pod, meta.name, meta.namespace, uid=meta.uid)
        except NotFound:
            self._pods.deleted(pod)
            return None
        except StatusError as error:
            message = f"delete Pod {meta.name} in StatefulSet {found.metadata.name} failed error: {error.message}"
            self.events.record(found, "Warning", "FailedDelete", message)
            return error
        self._pods.ending(pod, timestamp(self.clock.time()))
        message = f"delete Pod {meta.name} in StatefulSet {found.metadata.name} successful"
        self.events.record(found, "Normal", "SuccessfulDelete", message)
        return None

    async def _write_status(self, found: StatefulSet, status: dict[str, Any]) -> None:
        try:
            self._sets.wrote(await change(self.client, found, merge_status(status), "status"))
        except NotFound:
            return


def _raise_first(results: Sequence[StatusError | None]) -> None:
    for error in results:
        if error is not None:
            raise error


__all__ = ["StatefulSetController"]
