"""Deployments: replica sets of successive templates, exchanged by RollingUpdate or Recreate.

plan(): a deployment, its sets (and pods, for Recreate) → one step: scale these, or create the new set, or tidy up. The controller applies
the step, then the status; the sets' own changes bring the next step. Undo is a client's: it reads the sets' revision annotations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from minikube_py.control import Watch
from minikube_py.controllers import deployment_status, rollout
from minikube_py.controllers.base import Context, Controller, Fresh, change, controller_uid, merge_status, namespace_is_ending
from minikube_py.controllers.claims import apply_claim, plan_claim
from minikube_py.meta.errors import AlreadyExists, NotFound, StatusError
from minikube_py.meta.selectors import matches
from minikube_py.types.meta import Condition, controller_of, owner_reference
from minikube_py.types.pod import Pod, is_terminal
from minikube_py.types.workload import Deployment, ReplicaSet


class Scale(NamedTuple):
    """A set and its new size."""

    replica_set: ReplicaSet
    replicas: int


class Plan(NamedTuple):
    """One step of a rollout."""

    old: tuple[ReplicaSet, ...]
    new: ReplicaSet | None
    revision: int = 0
    """The revision that the new set should bear; 0: leave it."""
    create: int | None = None
    """The size of a new set to be made; None: make none."""
    scale: tuple[Scale, ...] = ()
    delete: tuple[ReplicaSet, ...] = ()
    judged: bool = False
    """Whether the rollout's progress is judged in the status."""


def plan(deployment: Deployment, sets: Sequence[ReplicaSet], pods: Sequence[Pod] = ()) -> Plan:
    """The next step. `pods` (of all sets) matter to Recreate alone: it waits until the old ones have gone."""
    new = rollout.find_new(deployment, sets)
    old = tuple(s for s in sets if new is None or s.metadata.uid != new.metadata.uid)
    if deployment.metadata.deletionTimestamp is not None:
        return Plan(old, new)
    if deployment.spec.paused or _is_scaling(deployment, sets):
        base = Plan(old, new)
        step = base._replace(scale=_proportional(deployment, base))
        if deployment.spec.paused and not step.scale:
            step = step._replace(delete=_history(deployment, old))
        return step
    newest = max((rollout.revision_of(s.metadata.annotations) for s in old), default=0) + 1
    base = Plan(old, new, revision=newest, judged=True)
    if rollout.is_rolling(deployment):
        step = _rolling(deployment, base, sets)
    else:
        step = _recreate(deployment, base, pods)
    if step.create is None and not step.scale and deployment_status.is_complete(deployment, deployment.status):
        step = step._replace(delete=_history(deployment, old))
    return step


def _is_scaling(deployment: Deployment, sets: Iterable[ReplicaSet]) -> bool:
    for replica_set in sets:
        if replica_set.spec.replicas > 0:
            desired = rollout.desired_of(replica_set)
            if desired is not None and desired != deployment.spec.replicas:
                return True
    return False


def _rolling(deployment: Deployment, base: Plan, sets: Sequence[ReplicaSet]) -> Plan:
    wanted = deployment.spec.replicas
    if base.new is None:
        return base._replace(create=rollout.new_set_size(deployment, sets, 0))
    new = base.new
    size = wanted if new.spec.replicas >= wanted else rollout.new_set_size(deployment, sets, new.spec.replicas)
    if size != new.spec.replicas:
        return base._replace(scale=(Scale(new, size),))
    return base._replace(scale=_scale_old(deployment, base.old, new, sets))


def _scale_old(deployment: Deployment, old: Sequence[ReplicaSet], new: ReplicaSet, sets: Sequence[ReplicaSet]) -> tuple[Scale, ...]:
    """Shrink old sets as far as availability allows: what is not available anyway first, the oldest first."""
    least = deployment.spec.replicas - rollout.max_unavailable(deployment)
    budget = rollout.total(sets) - least - (new.spec.replicas - new.status.availableReplicas)
    if rollout.total(old) == 0 or budget <= 0:
        return ()
    sizes = {s.metadata.uid: s.spec.replicas for s in old}
    ordered = sorted(old, key=rollout.created)
    for replica_set in ordered:
        size, available = replica_set.spec.replicas, replica_set.status.availableReplicas
        if size == 0 or budget == 0:
            continue
        if size > available:
            drop = min(budget, size - available)
            sizes[replica_set.metadata.uid] -= drop
            budget -= drop
    spare = rollout.total_available(sets) - least
    for replica_set in ordered:
        drop = min(sizes[replica_set.metadata.uid], max(0, spare))
        sizes[replica_set.metadata.uid] -= drop
        spare -= drop
    return tuple(Scale(s, sizes[s.metadata.uid]) for s in ordered if sizes[s.metadata.uid] != s.spec.replicas)


def _recreate(deployment: Deployment, base: Plan, pods: Sequence[Pod]) -> Plan:
    shrink = tuple(Scale(s, 0) for s in base.old if s.spec.replicas > 0)
    if shrink:
        return base._replace(scale=shrink)
    olds = {s.metadata.uid for s in base.old}
    if any(controller_uid(pod.metadata) in olds and not is_terminal(pod) for pod in pods):
        return base._replace(revision=0)
    if base.new is None:
        return base._replace(create=deployment.spec.replicas)
    if base.new.spec.replicas != deployment.spec.replicas:
        return base._replace(scale=(Scale(base.new, deployment.spec.replicas),))
    return base


def _proportional(deployment: Deployment, base: Plan) -> tuple[Scale, ...]:
    """Follow a change of size in the middle of (or outside) a rollout without moving the rollout on."""
    everything = [*base.old, *([base.new] if base.new is not None else [])]
    active = [s for s in everything if s.spec.replicas > 0]
    wanted = deployment.spec.replicas
    target = active[0] if len(active) == 1 else (_newest(base) if not active else None)
    if target is not None:
        if target.spec.replicas != wanted or rollout.desired_of(target) != wanted:
            return (Scale(target, wanted),)
        return ()
    if base.new is not None and _saturated(deployment, base.new):
        return tuple(Scale(s, 0) for s in base.old if s.spec.replicas > 0)
    if not rollout.is_rolling(deployment) or not active:
        return ()
    allowed = wanted + rollout.max_surge(deployment) if wanted > 0 else 0
    to_add = allowed - rollout.total(active)
    if to_add > 0:
        active.sort(key=lambda s: (-s.spec.replicas, *(-rollout.created(s)[0], s.metadata.name)))
    else:
        active.sort(key=lambda s: (-s.spec.replicas, *rollout.created(s)))
    added = 0
    sizes = []
    for replica_set in active:
        share = rollout.proportion(replica_set, deployment, to_add, added) if to_add else 0
        sizes.append(replica_set.spec.replicas + share)
        added += share
    sizes[0] = max(0, sizes[0] + to_add - added)
    annotations = rollout.size_annotations(deployment)
    return tuple(
        Scale(s, size)
        for s, size in zip(active, sizes, strict=True)
        if size != s.spec.replicas or not annotations.items() <= s.metadata.annotations.items()
    )


def _newest(base: Plan) -> ReplicaSet | None:
    return base.new if base.new is not None else max(base.old, key=rollout.created, default=None)


def _saturated(deployment: Deployment, new: ReplicaSet) -> bool:
    wanted = deployment.spec.replicas
    return new.spec.replicas == wanted and rollout.desired_of(new) == wanted and new.status.availableReplicas == wanted


def _history(deployment: Deployment, old: Sequence[ReplicaSet]) -> tuple[ReplicaSet, ...]:
    """Old empty sets beyond the limit, the lowest revisions first."""
    idle = [s for s in old if s.metadata.deletionTimestamp is None]
    surplus = len(idle) - deployment.spec.revisionHistoryLimit
    if surplus <= 0:
        return ()
    idle.sort(key=lambda s: (rollout.revision_of(s.metadata.annotations), rollout.created(s)))
    return tuple(
        s
        for s in idle[:surplus]
        if s.status.replicas == 0 and s.spec.replicas == 0 and s.metadata.generation <= s.status.observedGeneration
    )


def new_set_body(deployment: Deployment, replicas: int, revision: int) -> dict[str, Any]:
    """The ReplicaSet of the deployment's present template."""
    template = msgspec.json.decode(deployment.spec.template)
    digest = rollout.template_hash(deployment.spec.template, deployment.status.collisionCount)
    metadata = template.setdefault("metadata", {})
    labels = {**(metadata.get("labels") or {}), rollout.HASH_LABEL: digest}
    metadata["labels"] = labels
    selector = deployment.spec.selector
    wanted: dict[str, Any] = {"matchLabels": {**selector.matchLabels, rollout.HASH_LABEL: digest}}
    if selector.matchExpressions:
        wanted["matchExpressions"] = [
            {"key": e.key, "operator": e.operator, **({"values": list(e.values)} if e.values else {})} for e in selector.matchExpressions
        ]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{deployment.metadata.name}-{digest}",
            "labels": labels,
            "annotations": rollout.set_annotations(deployment, None, revision),
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": deployment.spec.minReadySeconds,
            "selector": wanted,
            "template": template,
        },
    }


class DeploymentController(Controller):
    """Drives every Deployment."""

    name = "deployment"
    identity = "deployment-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._deployments: Fresh[Deployment] = Fresh(context.informers.of(Deployment))
        self._sets: Fresh[ReplicaSet] = Fresh(context.informers.of(ReplicaSet))
        self._pods = context.informers.of(Pod)

    def watches(self) -> Sequence[Watch]:
        return (
            Watch(self._deployments.informer),
            Watch(self._sets.informer, self._deployments_of),
            Watch(self._pods, self._recreating),
        )

    def _deployments_of(self, replica_set: ReplicaSet) -> Iterable[str]:
        ref = controller_of(replica_set.metadata)
        namespace = replica_set.metadata.namespace
        if ref is not None:
            if ref.kind == "Deployment":
                yield f"{namespace}/{ref.name}"
            return
        for deployment in self._deployments.informer.list(namespace):
            if matches(deployment.spec.selector, replica_set.metadata.labels):
                yield deployment.key

    def _recreating(self, pod: Pod) -> Iterable[str]:
        """Deployments that wait for the last of their old pods: only the end of a pod of an empty set can matter."""
        if pod.metadata.deletionTimestamp is None and not is_terminal(pod):
            return
        ref = controller_of(pod.metadata)
        if ref is None or ref.kind != "ReplicaSet":
            return
        replica_set = self._sets.informer.get(f"{pod.metadata.namespace}/{ref.name}")
        owner = controller_of(replica_set.metadata) if replica_set is not None else None
        if owner is None:
            return
        key = f"{pod.metadata.namespace}/{owner.name}"
        deployment = self._deployments.informer.get(key)
        if deployment is not None and not rollout.is_rolling(deployment):
            yield key

    async def reconcile(self, key: str) -> float | None:
        deployment = self._deployments.get(key)
        if deployment is None:
            return None
        if not deployment.spec.selector.matchLabels and not deployment.spec.selector.matchExpressions:
            message = "This deployment is selecting all pods. A non-empty selector is required."
            self.events.record(deployment, "Warning", "SelectingAll", message)
            return None
        now = self.clock.time()
        claim = plan_claim(deployment, deployment.spec.selector, self._sets.list(deployment.metadata.namespace))
        sets = await apply_claim(self.client, self._sets, deployment, claim)
        noted = deployment_status.pause_conditions(deployment, now)
        if noted is not None and deployment.metadata.deletionTimestamp is None:
            deployment = await self._write_status(deployment, {"conditions": deployment_status.conditions_json(noted)})
        pods = () if rollout.is_rolling(deployment) else self._pods_of(deployment, sets)
        step = plan(deployment, sets, pods)
        try:
            applied = await self._apply(deployment, step, now)
        except NotFound:
            # a set or the deployment went away under us: its event brings the next look
            return None
        if applied is None:
            return None
        current = [found for s in sets if (found := self._sets.get(s.key)) is not None]
        if applied.created is not None:
            current.append(applied.created)
        new = rollout.find_new(deployment, current)
        status = deployment_status.calculate(deployment, current, new, applied.conditions, now, judged=step.judged)
        if status != deployment.status:
            await self._write_status(deployment, deployment_status.status_json(status))
        return deployment_status.deadline_wait(deployment, status, now)

    def _pods_of(self, deployment: Deployment, sets: Sequence[ReplicaSet]) -> list[Pod]:
        uids = {s.metadata.uid for s in sets}
        return [pod for pod in self._pods.list(deployment.metadata.namespace) if controller_uid(pod.metadata) in uids]

    async def _apply(self, deployment: Deployment, step: Plan, now: float) -> Applied | None:
        """Carry out a step. None: the step has to be planned anew, an event will bring it."""
        conditions = deployment.status.conditions
        created: ReplicaSet | None = None
        if step.new is not None and step.revision:
            new = await self._annotate(deployment, step.new, step.revision)
            conditions = deployment_status.found_new(deployment, conditions, new, now)
            await self._set_revision(deployment, rollout.revision_of(new.metadata.annotations))
        if step.create is not None:
            created = await self._create(deployment, step.create, step.revision)
            if created is None:
                return None
            conditions = deployment_status.created_new(deployment, conditions, created, now)
            await self._set_revision(deployment, rollout.revision_of(created.metadata.annotations))
        for scale in step.scale:
            await self._scale(deployment, scale)
        for replica_set in step.delete:
            meta = replica_set.metadata
            try:
                await self.client.delete(ReplicaSet, meta.name, meta.namespace, uid=meta.uid)
            except NotFound:
                continue
            self._sets.deleted(replica_set)
        return Applied(created, conditions)

    async def _annotate(self, deployment: Deployment, new: ReplicaSet, revision: int) -> ReplicaSet:
        annotations = rollout.set_annotations(deployment, new, revision)
        if annotations == new.metadata.annotations and new.spec.minReadySeconds == deployment.spec.minReadySeconds:
            return new
        patch = {
            "metadata": {"resourceVersion": new.metadata.resourceVersion, "annotations": annotations},
            "spec": {"minReadySeconds": deployment.spec.minReadySeconds},
        }
        return self._sets.wrote(await self.client.patch(ReplicaSet, new.metadata.name, patch, new.metadata.namespace))

    async def _set_revision(self, deployment: Deployment, revision: int) -> None:
        if deployment.metadata.annotations.get(rollout.REVISION) == str(revision):
            return

        def annotate(live: dict[str, Any]) -> None:
            annotations = live["metadata"].setdefault("annotations", {})
            annotations[rollout.REVISION] = str(revision)

        self._deployments.wrote(await change(self.client, deployment, annotate))

    async def _create(self, deployment: Deployment, replicas: int, revision: int) -> ReplicaSet | None:
        """The new set, or None where a hash collision was counted (the status write brings the next look)."""
        namespace = deployment.metadata.namespace
        body = new_set_body(deployment, replicas, revision)
        name = body["metadata"]["name"]
        try:
            made = self._sets.wrote(await self.client.create(ReplicaSet, body, namespace))
        except AlreadyExists:
            there = await self.client.get(ReplicaSet, name, namespace)
            ours = controller_uid(there.metadata) == deployment.metadata.uid
            if ours and rollout.find_new(deployment, (there,)) is not None:
                return self._sets.wrote(there)
            count = deployment.status.collisionCount + 1
            await self._write_status(deployment, {"collisionCount": count})
            return None
        except StatusError as error:
            if namespace_is_ending(error):
                return None
            message = f'Failed to create new replica set "{name}": {error.message}'
            self.events.record(deployment, "Warning", "ReplicaSetCreateError", message)
            conditions = deployment_status.create_failed(deployment, message, self.clock.time())
            await self._write_status(deployment, {"conditions": deployment_status.conditions_json(conditions)})
            raise
        if replicas > 0:
            self.events.record(deployment, "Normal", "ScalingReplicaSet", f"Scaled up replica set {name} from 0 to {replicas}")
        return made

    async def _scale(self, deployment: Deployment, scale: Scale) -> None:
        replica_set = self._sets.get(scale.replica_set.key) or scale.replica_set
        meta = replica_set.metadata
        before = replica_set.spec.replicas
        patch = {
            "metadata": {"resourceVersion": meta.resourceVersion, "annotations": rollout.size_annotations(deployment)},
            "spec": {"replicas": scale.replicas},
        }
        self._sets.wrote(await self.client.patch(ReplicaSet, meta.name, patch, meta.namespace))
        if before != scale.replicas:
            way = "up" if scale.replicas > before else "down"
            message = f"Scaled {way} replica set {meta.name} from {before} to {scale.replicas}"
            self.events.record(deployment, "Normal", "ScalingReplicaSet", message)

    async def _write_status(self, deployment: Deployment, status: dict[str, Any]) -> Deployment:
        try:
            return self._deployments.wrote(await change(self.client, deployment, merge_status(status), "status"))
        except NotFound:
            return deployment


class Applied(NamedTuple):
    """What applying a step brought: the new set, and the conditions with what is to be said of it."""

    created: ReplicaSet | None
    conditions: tuple[Condition, ...]
